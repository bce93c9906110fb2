-- Saves partitions of one scope, each by itself. KEYS: the index of
-- partitions, then the hash of each.
-- ARGV, for each hash: name in the index, sequence, base, whole (1 or 0),
-- number of pairs, number of fields to remove, the pairs of field and value,
-- the fields to remove.
-- Answers for each: 0 saved, 1 refused as older, 2 the base is not what is
-- stored.
local at = 1
-- A call takes only so many arguments as the interpreter's stack holds.
local function each(command, key, last)
  while at <= last do
    local till = math.min(at + 999, last)
    redis.call(command, key, unpack(ARGV, at, till))
    at = till + 1
  end
end
local function save(key)
  local name, sequence, base, whole = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local pairs_end = at + 5 + 2 * tonumber(ARGV[at + 4])
  local removed_end = pairs_end + tonumber(ARGV[at + 5])
  at = at + 6
  local stored = tonumber(redis.call('HGET', key, 'sequence') or '0')
  local answer = 0
  if stored > tonumber(sequence) then
    answer = 1
  else
    redis.call('SADD', KEYS[1], name)
    if stored < tonumber(sequence) then
      if whole == '1' then
        redis.call('DEL', key)
      elseif stored ~= tonumber(base) then
        answer = 2
      end
      if answer == 0 then
        each('HSET', key, pairs_end)
        each('HDEL', key, removed_end)
        redis.call('HSET', key, 'sequence', sequence)
      end
    end
  end
  at = removed_end + 1
  return answer
end
local answers = {}
for i = 2, #KEYS do
  answers[i - 1] = save(KEYS[i])
end
return answers
