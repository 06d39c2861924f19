/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Huge pages, and what is handed to a userfaultfd monitor. None of these programs runs for a fault
 * of a small page. They tell faults.c what a fault met; there it is counted, once.
 */

#define VM_UFFD_MISSING	0x200
#define VM_UFFD_WP	0x1000

/* A write to a huge page whose PMD is write-protected. Where it is split, do_wp_page() follows. */
static int wp_pmd_begins(struct task_struct *current, struct vm_fault *vmf, u64 orig_pmd)
{
	u64 ids = IDS_OF(current), place = (u64)PROBE(vmf, pmd);
	struct vm_area_struct *vma = READ(vmf, vma);

	if (!fault_asked_for(current, ids, READ(vmf, flags)))
		return 0;
	/* Another thread may have been here before. Who was it is told below, where that can be had. */
	if (TRACED_pmdp_set_access_flags || READ_WORD(place) == orig_pmd)
		entry_met(ids, READ(vmf, address) & PAGE_MASK, orig_pmd, place | IS_PMD,
			  met_at(orig_pmd, READ(vma, vm_file)), 0);
	return 0;
}

/*
 * The PMD at @place gets the flags of @entry. Of the threads that fault on one huge page at once
 * one alone comes here, with the lock of the page table.
 */
static int pmd_upgraded(u64 place, u64 entry)
{
	u32 thread = bpf_get_current_pid_tgid();
	struct fault *fault = slot_of(thread);

	if (fault->thread != thread)
		fault = attempts.lookup(&thread);
	if (fault && entry & ENTRY_RW && fault->entry & IS_PMD && PLACE_OF(fault->entry) == place)
		fault->entry |= UPGRADED;
	return 0;
}

/* hugetlb has faults of its own: none of them comes to the functions above. */
#if TRACED_hugetlb_fault
static int hugetlb_begins(struct task_struct *current, struct mm_struct *mm, u64 address, u32 flags)
{
	u64 ids = IDS_OF(current), base = VALUE_OF(memory_map)->base;
	volatile u64 next;
	struct leaf leaf;
	u32 met = MET_UNKNOWN;

	if (!base || !fault_asked_for(current, ids, flags))
		return 0;
	leaf = leaf_at((u64)PROBE(mm, pgd), base, address, &next);
	if (leaf.shift == PAGE_SHIFT || leaf.entry & ENTRY_RW)
		leaf.entry = 0;
	/* A read maps a new page, which is not to be written to yet. */
	if (leaf.entry)
		met = leaf.entry & (ENTRY_DIRTY | ENTRY_SAVED_DIRTY) ?
			met_at(leaf.entry, true) : MET_NEVER_WRITABLE;
	/* The kernel looks again, one fault of a page after the other (hugetlb_fault_mutex_table). */
	entry_met(ids, address & PAGE_MASK, leaf.entry, leaf.place | UNLOCKED, met, moment());
	return 0;
}
#endif

/* As the process knows it: `address` is where the huge page begins, of hugetlb. */
static u64 page_of(struct vm_fault *vmf, struct fault *slot, u32 thread)
{
#ifdef HAVE_REAL_ADDRESS
	return READ(vmf, real_address) & PAGE_MASK;
#else
	return slot->thread == thread ? slot->page : READ(vmf, address) & PAGE_MASK;
#endif
}

/* A monitor is told, and the fault waits for it. */
static int handed_over(struct task_struct *current, struct vm_fault *vmf, u64 reason)
{
	u32 outcome = reason & VM_UFFD_WP ? OUTCOME_WP_UFFD : OUTCOME_UFFD_MISSING;
	u64 ids = IDS_OF(current);
	u32 thread = ids;
	struct fault *slot = slot_of(thread), *earlier;
	struct fault known = {.outcome = outcome};

	if (!(reason & (VM_UFFD_WP | VM_UFFD_MISSING)) ||
	    !fault_asked_for(current, ids, READ(vmf, flags)))
		return 0;
	known.page = page_of(vmf, slot, thread);
	earlier = attempts.lookup(&thread);
	if (!earlier || earlier->page != known.page)
		remember_attempt(slot, thread, &known);
	else if (earlier->outcome != OUTCOME_WP_UFFD)
		earlier->outcome = outcome;
	return 0;
}

/* All that splits a PMD takes the lock in __split_huge_pmd(), and looks again. */
static int pmd_splits(struct vm_area_struct *vma, u64 place)
{
	struct vma_record *record;

	if (!(READ_WORD(place) & ENTRY_HUGE))
		return 0;
	record = record_of(vma);
	if (record)
		COUNT(record->counted.pmds_split, 1);
	return 0;
}

#if INSPECT
#define HINT_OF_PTE		1
#define HINT_OF_PMD		2
/* Far more than can be under so many locks at once. */
#define MAX_HINTS		1024

/* By thread: a hint that would map its page writable, of which is not known yet if it stays. */
BPF_HASH(hints, u32, u32, MAX_HINTS);

static int mapped_writable(struct vm_area_struct *vma, u32 hint)
{
	struct vma_record *record = record_of(vma);

	if (!record)
		return 0;
	if (hint == HINT_OF_PTE) {
		COUNT(record->counted.ptes_inspected, 1);
		COUNT(record->counted.ptes_made_writable[CAUSE_NUMA_HINT], 1);
	} else {
		COUNT(record->counted.pmds_made_writable[CAUSE_NUMA_HINT], 1);
	}
	return 0;
}
#endif

/*
 * What a NUMA hint had made inaccessible is mapped again, or moved to @node before (-1: it stays
 * where it is). @writable: also where its protection alone would leave it read-only
 * (6a56ccbcf6c6, 6.2). A page that is moved is mapped read-only, whatever it was.
 */
static int numa_hint_ends(struct vm_fault *vmf, u64 writable, s32 node)
{
#if INSPECT
	struct vm_area_struct *vma = READ(vmf, vma);
	u32 thread = bpf_get_current_pid_tgid(), hint;

	if (!(u8)writable || PROBE(vma, vm_page_prot.pgprot) & ENTRY_RW)
		return 0;
	hint = READ(vmf, pte) ? HINT_OF_PTE : HINT_OF_PMD;
	if (node == -1)
		return mapped_writable(vma, hint);
	if (TRACED_migrate_misplaced_folio_prepare)
		hints.update(&thread, &hint);
#endif
	return 0;
}

/* It stays after all where it cannot be taken off its lists, or has no room on the other node. */
static int numa_move_prepared(struct vm_area_struct *vma, s32 error)
{
#if INSPECT
	u32 thread = bpf_get_current_pid_tgid(), *found = hints.lookup(&thread), hint;

	if (!found)
		return 0;
	hint = *found;
	hints.delete(&thread);
	if (error)
		return mapped_writable(vma, hint);
#endif
	return 0;
}
