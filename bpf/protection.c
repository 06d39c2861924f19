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
	COUNT(record->counted.protection_changes[cause], 1);		\
	COUNT(record->counted.ptes_changed[cause], ptes)
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

static bool change_asked_for(struct vm_area_struct *vma)
{
#if FILTERED
	struct subject subject = subject_of(vma);

	return subject.leader && asked_for(subject.tgid, subject.leader);
#else
	return true;
#endif
}

/* NULL where the change is not asked for. */
static struct vma_record *record_in(void *table, struct vm_area_struct *vma)
{
	struct fault *last = slot_of(bpf_get_current_pid_tgid());
	struct subject subject = subject_of(vma);

	if (!table || !subject.leader || !asked_for(subject.tgid, subject.leader))
		return NULL;
	/* execve() makes its stack what it is to be: no program asked for that. */
	if (is_being_built(READ(vma, vm_mm)))
		return NULL;
	return record_at(table, vma, READ(vma, vm_flags), &subject, &last->place);
}

/* What userfaultfd write-protects tells so itself. */
static void note_protection(struct vma_record *record, u64 cp_flags, u64 start, u64 end)
{
	u32 cause = cause_of(cp_flags);

	if (cause == CAUSE_MPROTECT)
		note_protector(record, PROTECTED_BY_MPROTECT, start, end);
	else if (cause == CAUSE_UFFD_UNPROTECT)
		note_protector(record, PROTECTED_BY_UFFD_UNPROTECT, start, end);
	else if (cause == CAUSE_NUMA_HINT)
		note_protector(record, PROTECTED_BY_NUMA_HINT, start, end);
}

static struct vma_record *record_of(struct vm_area_struct *vma)
{
	return record_in(table_in_use(), vma);
}

/* One call of change_protection(). */
static int protection_changed(void *ctx, struct vm_area_struct *vma, u64 start, u64 end,
			      u64 cp_flags, s64 result)
{
	void *table = table_in_use();
	struct vma_record *record;

	if (result < 0)
		return 0;	/* an error; -EAGAIN (since Linux 6.5) the caller tries again */
	record = record_in(table, vma);
	if (!record)
		return 0;
	record->last_change_ns = bpf_ktime_get_ns();
	count_change(record, cp_flags, result);
	note_change(ctx, table, record, vma, cause_of(cp_flags));
	if (result)
		note_protection(record, cp_flags, start, end);
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

#if TRACED_copy_page_range
/*
 * A VMA's page tables are about to be copied to a new process. What is writable in them is not any
 * more when they are, but for pages that are pinned.
 */
static int tables_copied(struct vm_area_struct *vma)
{
#if INSPECT
	u64 vm_flags = READ(vma, vm_flags), ptes, pmds;
	struct vma_record *record;
	struct scratch *scratch;

	if ((vm_flags & (VM_SHARED | VM_MAYWRITE)) != VM_MAYWRITE || !READ(vma, anon_vma))
		return 0;
	if (!change_asked_for(vma))
		return 0;
	scratch = looked_at(vma, READ(vma, vm_start), READ(vma, vm_end), false);
	if (!scratch)
		return 0;
	ptes = sorted(scratch->classes, false).writable;
	pmds = sorted(scratch->huge, false).writable;
	if (!ptes && !pmds)
		return 0;
	record = record_of(vma);
	if (!record)
		return 0;
	COUNT(record->counted.ptes_protected_by_fork, ptes);
	COUNT(record->counted.pmds_protected_by_fork, pmds);
	if (!pages_tell())
		count_fork_due(record, ptes + pmds * ENTRIES);
#endif
	return 0;
}
#endif
