package doctor

import (
	"context"
	"os"
	"os/exec"
	"syscall"
)

// machine looks at what an installation in a data folder has from this machine.
func (r *round) machine(ctx context.Context) {
	data := r.options.Bus.Data
	if r.options.Bus.NATS != "" || data == "" {
		return
	}
	if _, err := os.Stat(data); err != nil {
		return
	}
	r.examine(ctx, "disk", func(context.Context) {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(data, &fs); err != nil {
			r.skip("%v", err)
			return
		}
		r.room(data, fs.Bavail*uint64(fs.Bsize), fs.Blocks*uint64(fs.Bsize))
	})
	r.examine(ctx, "tools", func(context.Context) {
		for tool, what := range map[string]string{"git": "merge changes", "go": "compile and test"} {
			if _, err := exec.LookPath(tool); err != nil {
				r.find(Warning, "without it the builder can not "+what, "install "+tool+", or let an outside builder do it (owners.integrate)", "%s is not on the PATH of this machine", tool)
			}
		}
	})
}

// room judges how much of a disk is free, in bytes.
func (r *round) room(data string, free, all uint64) {
	r.says("%.1f GiB free for %s", float64(free)/(1<<30), data)
	why := "a full disk refuses every claim and every fact"
	mend := "make room, or move the data folder to a larger disk"
	share := float64(free) / float64(max(all, 1))
	switch {
	case free < 256<<20 || share < 0.01:
		r.find(Error, why, mend, "only %d MiB are free for %s", free>>20, data)
	case free < 1<<30 || share < 0.05:
		r.find(Warning, why, mend, "only %d MiB are free for %s, %.0f %%", free>>20, data, 100*share)
	}
}
