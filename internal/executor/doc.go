// Package executor runs one script that others wrote, such as a step of a pipeline, as a process of the host or in a container, or builds an image, and tells how it ended.
//
//	process := executor.NewProcess(executor.Auto)
//	result, err := process.Run(ctx, executor.Step{Script: "go test ./...", Dir: tree, Limits: executor.Limits{Time: time.Minute}}, log)
//	result.Succeeded()   // it exited with 0
//	result.Cause         // else why not: exit, time-limit, memory-limit, …
//
// That a script fails or takes too much is a result. The error says that the machinery failed or that the context ended;
// whichever it is, nothing that the script started is left when Run returns.
//
// A process of the host is run by an init of its own: this program, executed once more in new user, mount, pid, ipc and uts
// namespaces (and a network namespace unless the step asks for the network). The init makes a root of what a script needs:
// the system's programs and libraries, read only, the step's folder, a private home, /tmp, /proc and /dev. It then starts the script as
// an ordinary user without any capability, collects orphans, and watches memory and processes. When the init ends, the
// kernel ends everything in its pid namespace: daemons too, and what ignores signals. Should the program that has the executor die, the init reads
// the end of its pipe and ends. After a step an init is begun for the next one, which knows nothing of either; it
// makes what of the root is the same for all.
//
// Where the kernel grants no namespaces (a container without the right to make them), [Auto] goes on without: the init then
// adopts all orphans and kills by parentage, and the script sees the machine with the program's rights; Result.Unisolated says
// why. [Required] refuses instead.
//
// [Docker] runs steps in containers: those of an image, and those that have services beside them. Services and the script share one
// network namespace, which begins with the first service and has nothing but a loopback unless the step asks for the network; that
// needs no network of the engine's that would have to be removed. One that asks for it is on the engine's bridge, with all others that
// did: they reach one another, and what of the machine listens there, by address. A step of the host with services runs in a container
// that has no image of its own, and the same folders of the machine as it would see without; of its layers those without Lower.
// Variables, with the values of secrets, are part of a container: who may ask the engine reads them while it exists. Services are
// looked at until they are ready, and not while the script runs.
//
// [Docker] builds images too, by the engine's classic builder. Of that builder's containers only one thing is the caller's to choose and nobody
// else's: a bound, of the sizes of files, by which they are found; the images that it makes in between it tells in its output, where a script may tell
// the same. So an image is removed only where it was not there before and has no name.
//
// What a process that was killed has left is found by a label: the name of a file that it held a lock on. The next process on the
// folder removes it, when it begins or first needs the engine. What can not be removed, also at the end of a step, is not tried again
// before the process has ended and another has begun.
//
// On the host the limit of processors is one of whole cores, rounded up. Memory and processes are looked at ten times a second; what forks
// faster than that meets a limit of the kernel at eight times as many tasks.
package executor
