/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Protection changes: what change_protection() was called for, and how many
 * PTEs it processed.
 */

#define MM_CP_PROT_NUMA		0x2
#define MM_CP_UFFD_WP		0x4
#define MM_CP_UFFD_WP_RESOLVE	0x8

static void count_change(struct vma_record *record, u64 cp_flags, u64 calls, u64 ptes)
{
	/* Not an index computed at run time: each counter keeps its own address. */
#define CHANGED(cause)							\
	COUNT(record->changes[cause], calls);				\
	COUNT(record->ptes_changed[cause], ptes)
	if (cp_flags & MM_CP_PROT_NUMA) {
		CHANGED(CAUSE_NUMA_HINT);
	} else if (cp_flags & MM_CP_UFFD_WP) {
		CHANGED(CAUSE_UFFD_WP);
	} else if (cp_flags & MM_CP_UFFD_WP_RESOLVE) {
		CHANGED(CAUSE_UFFD_UNPROTECT);
	} else {
		CHANGED(CAUSE_MPROTECT);
	}
#undef CHANGED
}

/* One call of change_protection(). Its PTEs are counted here where its callee cannot be hooked. */
static int protection_changed(struct vm_area_struct *vma, u64 cp_flags, s64 ptes)
{
	struct vma_record *record = record_of(vma);

	if (!record)
		return 0;
	record->last_change_ns = bpf_ktime_get_ns();
#if TRACED_change_pte_range
	ptes = 0;
#endif
	count_change(record, cp_flags, 1, ptes);
	return 0;
}

#if TRACED_change_pte_range
/* One page table's part of it. -EAGAIN (since Linux 6.5): the caller repeats the attempt. */
static int pte_range_changed(struct vm_area_struct *vma, u64 cp_flags, s64 ptes)
{
	struct vma_record *record;

	if (ptes <= 0)
		return 0;
	record = record_of(vma);
	if (record)
		count_change(record, cp_flags, 0, ptes);
	return 0;
}
#endif
