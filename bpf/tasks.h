/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which process an event belongs to, and whether it was asked for.
 */

#define PF_KTHREAD	0x00200000
#define FILTERED	(defined(FILTER_TGID) || defined(FILTER_COMM_LOW) || defined(FILTER_CGROUP))

#ifdef FILTER_TGID
/*
 * An `enum tracing` by thread group id, for as many as there can be (PID_MAX_LIMIT): no process
 * finds no room, and what is not followed is known after reading a byte.
 */
#define MOST_PIDS	(4 << 20)

struct tracings {
	u8 of[MOST_PIDS];
};

BPF_F_TABLE("array", u32, struct tracings, followed, 1, BPF_F_MMAPABLE);
#define VALUE_followed	1

static u32 tracing_of(u32 tgid)
{
	return VALUE_OF(followed)->of[tgid & (MOST_PIDS - 1)];
}

static void set_tracing(u32 tgid, u32 tracing)
{
	VALUE_OF(followed)->of[tgid & (MOST_PIDS - 1)] = tracing;
}
#else
static u32 tracing_of(u32 tgid)
{
	return TRACE_NOW;
}
#endif

struct subject {
	u64 image;
	u32 tgid;
	struct task_struct *leader;
};

static struct subject subject_current(struct task_struct *current, u32 tgid)
{
	struct task_struct *leader = TASK_READ(current, group_leader);
	struct subject subject = {
		.image = TASK_READ(leader, start_boottime) + TASK_READ(leader, self_exec_id),
		.tgid = tgid,
		.leader = leader,
	};

	return subject;
}

/* A kernel thread works in the memory of a process (vhost, io_uring before Linux 5.12). */
static bool is_kernel_thread(struct task_struct *task)
{
	return TASK_READ(task, flags) & PF_KTHREAD;
}

/*
 * The process that owns @vma: nearly always the current one. Otherwise another
 * one reaches into its memory (ptrace, userfaultfd), or execve() writes the
 * stack of the image to come, which is counted as that image's.
 */
static struct subject subject_of(struct vm_area_struct *vma)
{
	struct task_struct *current = CURRENT_TASK();
	struct subject subject = {};
	struct task_struct *owner;

	if (READ(vma, vm_mm) == TASK_READ(current, mm) && !is_kernel_thread(current))
		return subject_current(current, bpf_get_current_pid_tgid() >> 32);
	owner = MM_OWNER(vma, current);
	if (!owner)
		return subject;
	subject.leader = PROBE(owner, group_leader);
	subject.image = PROBE(subject.leader, start_boottime) +
			PROBE(subject.leader, self_exec_id) + (owner == current);
	subject.tgid = PROBE(subject.leader, tgid);
	return subject;
}

/* As a string: up to Linux 5.16 something may stand behind its end (06c5088aeed5). */
static bool name_asked_for(struct task_struct *leader)
{
#ifdef FILTER_COMM_LOW
	u64 comm[2] = {};

	bpf_probe_read_kernel_str(comm, sizeof(comm), &leader->comm);
	return comm[0] == FILTER_COMM_LOW && comm[1] == FILTER_COMM_HIGH;
#else
	return true;
#endif
}

static bool passes_filters(struct task_struct *leader)
{
#ifdef FILTER_CGROUP
	struct kernfs_node *node = CGROUP_OF(PROBE, leader);

	if (!cgroup_asked_for(PROBE(node, id), node))
		return false;
#endif
	return name_asked_for(leader);
}

/* Asked of the owner of the memory, whoever acts on it. */
static bool asked_for(u32 tgid, struct task_struct *leader)
{
	return tracing_of(tgid) == TRACE_NOW && passes_filters(leader);
}

/* The same of the current process, at less cost. */
static bool current_asked_for(struct task_struct *current, u32 tgid)
{
#if defined(FILTER_COMM_LOW) || defined(FILTER_CGROUP)
	struct task_struct *leader = TASK_READ(current, group_leader);
#endif

	if (tracing_of(tgid) != TRACE_NOW)
		return false;
#ifdef FILTER_COMM_LOW
	/* Most names are another one by their first letter, at less cost than reading them. */
	if (TASK_READ(leader, comm[0]) != (char)FILTER_COMM_LOW || !name_asked_for(leader))
		return false;
#endif
#ifdef FILTER_CGROUP
	struct kernfs_node *node = CGROUP_OF(TASK_READ, leader);

	if (!cgroup_asked_for(TASK_READ(node, id), node))
		return false;
#endif
	return true;
}
