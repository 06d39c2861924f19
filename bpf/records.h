/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the BPF programs hand to user space. This is the only definition:
 * the programs compile it, and pte_trace/records.py derives its own view
 * from the same text. Keep to plain structs, enums and integer arrays.
 */

/* Why protection was changed, from change_protection()'s cp_flags. */
enum cause {
	CAUSE_MPROTECT,
	CAUSE_NUMA_HINT,
	CAUSE_UFFD_WP,
	CAUSE_UFFD_UNPROTECT,
	CAUSES
};

/* How a write fault ended. */
enum outcome {
	OUTCOME_WP_REUSE,
	OUTCOME_WP_COPY,
	OUTCOME_WP_SHARED,
	OUTCOME_WP_UFFD,
	OUTCOME_ERROR,
	OUTCOME_OTHER,
	OUTCOMES
};

/*
 * Why a PTE was left read-only by a change that asked for writable ones. The
 * first that holds, in this order; what none of the others explains is shared:
 * not exclusive, or not anonymous.
 */
enum reason {
	REASON_UFFD_WP,
	REASON_SOFT_DIRTY,
	REASON_CLEAN,
	REASON_SHARED,
	REASONS
};

/* Why PTEs that such a change processed were not looked at. */
enum omission {
	OMITTED_HUGE,	/* mapped by a huge page: there is no PTE */
	OMITTED_LIMIT,	/* beyond what one change may cost */
	OMISSIONS
};

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
	struct vma_key vma;
	__u64 claims;		/* see bpf/vma.h */
	/* Captured when the VMA is first seen; times on the monotonic clock. */
	__u64 first_seen_ns;
	__u64 born_ns;		/* of the mmap() that made just this range; 0: none known */
	__u32 kind;
	__u32 ppid;
	__u32 unlinked;
	__u32 reserved;
	char comm[16];
	char anon_name[80];
	/* Captured at each event; the last one stays. */
	__u64 vm_flags;
	__u64 last_change_ns;
	/* Counted. */
	__u64 write_faults[6];
	__u64 changes[4];
	__u64 ptes_changed[4];
	__u64 ptes_inspected;
	__u64 made_writable[4];
	__u64 left_readonly[4];
	__u64 not_inspected[2];
	/* Time in handle_mm_fault() by outcome; [n] counts 2^n ns up to 2^(n+1). */
	__u64 fault_ns[6];
	__u32 fault_log2[6][32];
};

/* A file that was deleted since it was first seen is another file, by name. */
struct file_key {
	__u64 inode;
	__u32 dev;
	__u32 unlinked;
};

/* A file's path: its components from the last to the first, each ended by NUL. */
struct file_record {
	__u32 length;
	char components[512];
};

/*
 * From where in a program a mapping's protection was changed: the word on top of
 * the user stack (of mprotect() only), and the stack as frame pointers lead through it (zero: its end).
 */
struct call_site {
	struct vma_key vma;
	__u64 stack_top;
	__u64 frames[16];
	__u32 cause;
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
	__u32 unlinked;
};

/* What could not be done, counted. */
struct health_record {
	__u64 paths_full;
	__u64 stacks_full;
	__u64 returns_missed; /* a kretprobe had no room left for a call, or we had none for its thread */
};
