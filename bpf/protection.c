/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Protection changes: what change_protection() was called for, and how many
 * PTEs it processed.
 */

static u32 cause_of(u64 cp_flags)
{
	if (cp_flags & MM_CP_PROT_NUMA)
		return CAUSE_NUMA_HINT;
	if (cp_flags & MM_CP_UFFD_WP)
		return CAUSE_UFFD_WP;
	if (cp_flags & MM_CP_UFFD_WP_RESOLVE)
		return CAUSE_UFFD_UNPROTECT;
	return CAUSE_MPROTECT;
}

static void count_change(struct vma_record *record, u64 cp_flags, u64 ptes)
{
	u32 cause = cause_of(cp_flags);

	/* Not an index computed at run time: each counter keeps its own address. */
#define CHANGED(cause)							\
	COUNT(record->changes[cause], 1);					\
	COUNT(record->ptes_changed[cause], ptes)
	if (cause == CAUSE_NUMA_HINT) {
		CHANGED(CAUSE_NUMA_HINT);
	} else if (cause == CAUSE_UFFD_WP) {
		CHANGED(CAUSE_UFFD_WP);
	} else if (cause == CAUSE_UFFD_UNPROTECT) {
		CHANGED(CAUSE_UFFD_UNPROTECT);
	} else {
		CHANGED(CAUSE_MPROTECT);
	}
#undef CHANGED
}

/* NULL where the change is not asked for. */
static struct vma_record *record_of(struct vm_area_struct *vma)
{
	struct fault *last = slot_of(bpf_get_current_pid_tgid());
	struct subject subject = subject_of(vma);

	if (!last || !subject.leader || !asked_for(subject.tgid, subject.leader))
		return NULL;
	return record_at(vma, READ(vma, vm_flags), &subject, &last->place);
}

/* One call of change_protection(). */
static int protection_changed(struct vm_area_struct *vma, u64 start, u64 end, u64 cp_flags,
			      s64 result)
{
	struct vma_record *record;

	if (result < 0)
		return 0;	/* an error; -EAGAIN (since Linux 6.5) the caller tries again */
	record = record_of(vma);
	if (!record)
		return 0;
	record->last_change_ns = bpf_ktime_get_ns();
	count_change(record, cp_flags, result);
	inspect_range(record, vma, start, end, cp_flags, result);
	return 0;
}

#if TRACED_change_pte_range
/* One page table's part of it. -EAGAIN (since Linux 6.5): the caller repeats the attempt. */
static int pte_range_changed(struct vm_area_struct *vma, u64 pmd, u64 addr, u64 end,
			     u64 cp_flags, s64 result)
{
#if INSPECT
	struct vma_record *record;

	if (result <= 0 || !asks_for_writable(vma, cp_flags))
		return 0;
	record = record_of(vma);
	if (record)
		inspect_table(record, vma, pmd, addr, end, cp_flags, result);
#endif
	return 0;
}
#endif
