/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the BPF programs hand to user space. With counters.h this is the only
 * definition: the programs compile it, and pte_trace/counted/layout.py is made
 * of the same text. Keep to plain structs, enums and integer arrays.
 */

enum kind {
	KIND_ANON,
	KIND_HEAP,
	KIND_STACK,
	KIND_FILE,
	KIND_SHMEM,
	KIND_HUGETLB,
	KIND_OTHER
};

/* How a process is traced where not all are. */
enum tracing {
	TRACE_NEVER,
	TRACE_CHILDREN,	/* pte-trace itself: only what it starts is of interest */
	TRACE_FROM_EXEC,
	TRACE_NOW
};

/*
 * One VMA of one program image. `image` tells apart two processes that were
 * given the same PID and two programs that one process executed: it is the
 * process's start (ns since boot) plus the number of its exec calls.
 * Without start and end: what of a process could not be attributed, because the
 * table of VMAs was full. All zero: of any process, because that of processes was too.
 */
struct vma_key {
	__u64 image;
	__u64 start;
	__u64 end;
	__u32 tgid;
	__u32 reserved;
	__u64 inode;
	__u32 dev;
	__u32 shared;
};

struct vma_record {
	__u64 claims;		/* see bpf/vma.h */
	struct vma_key vma;
	/* Captured when the VMA is first seen; times on the monotonic clock. */
	__u64 first_seen_ns;
	__u64 born_ns;		/* of the mmap() that made just this range; 0: none known */
	__u64 anon_name;	/* where it has a name and no file: see struct file_key */
	__u8 kind;
	/* Values of enum protected_by: what write-protected its pages last, and before that. */
	__u8 protector;
	__u8 protector_before;
	__u8 inherited;		/* `protector` is of another VMA of the process */
	__u32 ppid;
	__u32 uid;
	__u32 path;		/* of its file: see struct file_key */
	__u64 cgroup;		/* the id of its process's, see struct file_key; 0: not known */
	char comm[16];
	/* Captured at each event; the last one stays. */
	__u64 vm_flags;
	__u64 last_change_ns;
	__u32 protected_from;	/* by `protector`: pages, from the first of the VMA on */
	__u32 protected_to;
	__u32 fork_due;	/* below 0 none: see fork_is_due() */
	__u32 reserved;
	/* Counted. */
	struct counters counted;
	__u32 timings[OUTCOMES];	/* the places of its struct timing; 0: none was timed */
};

/*
 * Time in handle_mm_fault() of one outcome's faults in one VMA: a record of its own, for most
 * VMAs have faults of one or two outcomes.
 */
struct timing {
	__u64 claims;
	__u32 record;	/* the place of its struct vma_record */
	__u32 outcome;
	__u64 ns;
	__u32 log2[32];	/* [n] counts 2^n ns up to 2^(n+1) */
};

/*
 * A file by the path that a process has for it: see path_key(). Other names are kept beside the
 * files': of a mapping without a file, its hash for the inode and ANON_NAME for the dev; of a
 * cgroup, its id and CGROUP_NAME.
 */
#define ANON_NAME	0xffffffff
#define CGROUP_NAME	0xfffffffe
struct file_key {
	__u64 inode;
	__u32 dev;
	__u32 path;
};

/*
 * A file's path, or a cgroup's: its components from the last to the first, each ended by NUL; with
 * `cut` there are more. Or one name.
 */
struct file_record {
	__u32 length;
	__u32 cut;
	char components[768];
};

/* What a stack is of, and by what that is told apart: an enum cause, an enum outcome. */
enum event {
	EVENT_CHANGE,
	EVENT_FAULT
};

/*
 * From where in a program a mapping was changed or written to: the word on top of the user stack
 * (of mprotect() only), and the stack as frame pointers lead through it (zero: its end). `vma` is
 * that of the record into which it was counted.
 */
struct call_site {
	struct vma_key vma;
	__u64 stack_top;
	__u64 frames[16];
	__u32 event;
	__u32 what;
	__u32 origin;
	__u32 reserved;
};

/* Executable memory of a program image. */
struct code_key {
	__u64 image;
	__u64 start;
	__u32 tgid;
	__u32 reserved;
};

struct code_record {
	__u64 mapped_ns;	/* on the monotonic clock */
	__u64 end;
	__u64 offset;	/* of the start in the file */
	__u64 inode;	/* 0: no file */
	__u32 dev;
	__u32 path;	/* see struct file_key */
};

/*
 * What is asked for of a process's cgroup, written by user space: that it is, or is below, the
 * directory of this id, one with the name of this unit, one of the container whose id begins so. A
 * mask has the bits set that count. `monitor`: what comes before the id of a container's monitor.
 */
enum want {
	WANT_DIRECTORY = 1,
	WANT_UNIT = 2,
	WANT_CONTAINER = 4
};

#define UNIT_WORDS	32
#define CONTAINER_WORDS	8
struct wanted_cgroups {
	__u64 all;	/* bits of enum want */
	__u64 id;
	__u64 monitor;
	__u64 unit[UNIT_WORDS];
	__u64 unit_mask[UNIT_WORDS];
	__u64 container[CONTAINER_WORDS];
	__u64 container_mask[CONTAINER_WORDS];
};

/* What could not be done, counted. */
struct health_record {
	__u64 paths_full;	/* no room for a name */
	__u64 timings_full;	/* faults that were not timed, for want of room */
	__u64 stacks_full;
	__u64 returns_missed; /* a kretprobe had no room left for a call, or we had none for its thread */
};
