-- Saves one partition. KEYS: its hash, the index of partitions.
-- ARGV: name in the index, sequence, base, whole (1 or 0), number of pairs,
-- the pairs of field and value, the fields to remove.
-- Answers 0 saved, 1 refused as older, 2 the base is not what is stored.
local stored = tonumber(redis.call('HGET', KEYS[1], 'sequence') or '0')
local sequence = tonumber(ARGV[2])
if stored > sequence then
  return 1
end
redis.call('SADD', KEYS[2], ARGV[1])
if stored == sequence then
  return 0
end
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[1])
elseif stored ~= tonumber(ARGV[3]) then
  return 2
end
-- A call takes only so many arguments as the interpreter's stack holds.
local function each(command, first, last)
  for from = first, last, 1000 do
    redis.call(command, KEYS[1], unpack(ARGV, from, math.min(from + 999, last)))
  end
end
local pairs_end = 5 + 2 * tonumber(ARGV[5])
each('HSET', 6, pairs_end)
each('HDEL', pairs_end + 1, #ARGV)
redis.call('HSET', KEYS[1], 'sequence', ARGV[2])
return 0
