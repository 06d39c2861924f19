/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Protection changes: what change_protection() was called for, and how many
 * PTEs it processed.
 */

#define MM_CP_PROT_NUMA		0x2
#define MM_CP_UFFD_WP		0x4
#define MM_CP_UFFD_WP_RESOLVE	0x8

static int protection_changed(struct vm_area_struct *vma, u64 cp_flags, s64 ptes)
{
	struct vma_record *record = record_of(vma);

	if (!record)
		return 0;
	record->last_change_ns = bpf_ktime_get_ns();
	if (ptes < 0)
		ptes = 0;	/* -EAGAIN: the caller repeats it */
	/* Not an index computed at run time: each counter keeps its own address. */
#define CHANGED(cause)							\
	COUNT(record->changes[cause], 1);				\
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
	return 0;
}
