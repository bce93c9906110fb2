package git

import (
	"errors"
	"testing"
)

// What hosts say to a push: for good, or this time.
func TestRefusal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ out, stderr, want string }{
		"a hook": {"To /srv/api.git\n!\tabc:refs/heads/main\t[remote rejected] (pre-receive hook declined)\nDone\n",
			"remote: not on Fridays        \nremote: \nremote: ask Ann\nerror: failed to push some refs to '/srv/api.git'", "pre-receive hook declined: not on Fridays; ask Ann"},
		"a protected branch": {"!\tabc:refs/heads/main\t[remote rejected] (protected branch hook declined)\n", "remote: error: GH006: Protected branch update failed for refs/heads/main.",
			"protected branch hook declined: error: GH006: Protected branch update failed for refs/heads/main."},
		"who may read only": {"", "remote: Permission to shop/api.git denied to bot.\nfatal: unable to access 'https://git.example.org/shop/api.git/': The requested URL returned error: 403",
			"it may not be pushed to: Permission to shop/api.git denied to bot.; fatal: unable to access 'https://git.example.org/shop/api.git/': The requested URL returned error: 403"},
		"a key that may read only": {"", "ERROR: The key you are authenticating with has been marked as read only.\nfatal: Could not read from remote repository.",
			"it may not be pushed to: ERROR: The key you are authenticating with has been marked as read only."},
		"a locked branch":     {"!\tabc:refs/heads/main\t[remote rejected] (branch is locked)\n", "", "branch is locked"},
		"Gitea is ill":        {"!\tabc:refs/heads/main\t[remote rejected] (pre-receive hook declined)\n", "remote: Gitea: Internal Server Error", ""},
		"Gitea is away":       {"!\tabc:refs/heads/main\t[remote rejected] (pre-receive hook declined)\n", "remote: Unable to contact gitea: Post \"http://localhost:3000/api/internal/hook\": dial tcp: connect: connection refused", ""},
		"GitLab is away":      {"!\tabc:refs/heads/main\t[remote rejected] (pre-receive hook declined)\n", "remote: GitLab: Failed to authorize your Git request: internal API unreachable", ""},
		"GitLab is tended":    {"", "remote: Git push is not allowed because this GitLab instance is currently in (read-only) maintenance mode.\nfatal: unable to access 'https://git.example.org/': The requested URL returned error: 403", ""},
		"GitLab is a copy":    {"", "remote: You can't push code to a read-only GitLab instance.\nfatal: unable to access 'https://git.example.org/': The requested URL returned error: 403", ""},
		"asked too often":     {"", "remote: You have exceeded a secondary rate limit.\nfatal: unable to access 'https://git.example.org/': The requested URL returned error: 403", ""},
		"ssh is away":         {"", "ERROR: The git server, Gitaly, is not available at this time. Please try again later.\nfatal: Could not read from remote repository.", ""},
		"ssh is ill":          {"", "ERROR: Internal Server Error\nfatal: Could not read from remote repository.", ""},
		"its disk is full":    {"!\tabc:refs/heads/main\t[remote rejected] (unpacker error)\n", "error: remote unpack failed: unable to create temporary object directory", ""},
		"somebody writes":     {"!\tabc:refs/heads/main\t[remote rejected] (cannot lock ref 'refs/heads/main': is at 1 but expected 2)\n", "", ""},
		"it has moved":        {"!\tabc:refs/heads/main\t[rejected] (stale info)\n", "error: failed to push some refs", ""},
		"it is away":          {"", "fatal: unable to access 'https://git.example.org/': Could not resolve host: git.example.org", ""},
		"it is out of breath": {"", "error: RPC failed; HTTP 503\nfatal: the remote end hung up unexpectedly", ""},
	} {
		if got := refusal(c.out, &failure{verb: "push", status: 1, stderr: c.stderr}); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := refusal("!\ta:b\t[remote rejected] (no)\n", errors.New("killed")); got != "" {
		t.Error(got)
	}
}
