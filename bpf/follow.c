/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Keep `followed` true as processes fork, execute and exit.
 */

#ifdef FOLLOW_CHILDREN
static int task_forked(struct task_struct *parent, struct task_struct *child)
{
	u32 parent_tgid = PROBE(parent, tgid), tgid = PROBE(child, tgid);
	u32 inherited = tracing_of(parent_tgid);

	if (inherited == TRACE_NEVER || tgid == parent_tgid)
		return 0;
	/* What pte-trace starts counts from its exec on, so that it is the command alone. */
	set_tracing(tgid, inherited == TRACE_CHILDREN ? TRACE_FROM_EXEC : inherited);
	return 0;
}

static int task_executes(struct task_struct *task)
{
	u32 tgid = PROBE(task, tgid);

	if (tracing_of(tgid) == TRACE_FROM_EXEC)
		set_tracing(tgid, TRACE_NOW);
	return 0;
}

#endif

#ifdef FILTER_TGID
static int task_exits(struct task_struct *task)
{
	struct signal_struct *signal = PROBE(task, signal);
	u32 tgid = PROBE(task, tgid);

	/* The last thread: do_exit() has taken it off signal->live already. */
	if (PROBE(signal, live.counter) == 0)
		set_tracing(tgid, TRACE_NEVER);
	return 0;
}
#endif
