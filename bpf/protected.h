/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What had write-protected the page that a write fault met. Most of it the page itself tells where
 * do_wp_page() is entered: whether it is anonymous, whether it is this process's alone (since
 * Linux 5.19, 6c287605fd56), whether its entry waits for a write. Where it is anonymous, this
 * process's alone and nobody waits, a protection change was it: which one, the VMA's record tells.
 */

#define ENTRY_SPECIAL		0x200ULL	/* the zero page, or a device's memory */
#define ENTRY_SOFT_DIRTY	0x800ULL
#define VM_MAYWRITE		0x00000020ULL
#define VM_SOFTDIRTY		0x08000000ULL
#define VM_MERGEABLE		0x80000000ULL	/* by KSM */
#define MAPPING_ANON		1
#define MAPPING_KSM		3	/* with MAPPING_ANON */
#define PF_FORKNOEXEC		0x00000040

/* What is known of a page that is write-protected. */
enum met {
	MET_UNKNOWN,
	MET_NEVER_WRITABLE,
	MET_ANON,	/* whether it is shared with another process is not known */
	MET_EXCLUSIVE,
	MET_SHARED
};

static u64 page_word(u64 page, u32 offset)
{
	return READ_WORD(page + offset);
}

/* Of the pages of a large folio the first one tells whose it is. */
static u64 head_of(u64 page)
{
	u64 head = page_word(page, PAGE_HEAD_OFFSET);

	if (!(head & 1))
		return page;
	/* What is no address is a mask for one, in Linux 7. */
	return (s64)head > -(1LL << 40) ? page & head : head - 1;
}

/* @page is anonymous. Of a file's, the bit may mean something else. */
static u32 met_anonymous(u64 page)
{
#ifdef PAGE_EXCLUSIVE_BIT
	return page_word(page, PAGE_FLAGS_OFFSET) >> PAGE_EXCLUSIVE_BIT & 1 ? MET_EXCLUSIVE : MET_SHARED;
#else
	return MET_ANON;
#endif
}

static u32 met_page(u64 page)
{
	u64 mapping = page_word(head_of(page), PAGE_MAPPING_OFFSET);

	if (!(mapping & MAPPING_ANON))
		return MET_NEVER_WRITABLE;
	if ((mapping & MAPPING_KSM) == MAPPING_KSM)
		return MET_UNKNOWN;
	return met_anonymous(page);
}

static bool pages_known(void)
{
	return VALUE_OF(memory_map)->pages;
}

/* Whether a page tells that it is this process's alone. */
static bool pages_tell(void)
{
#ifdef PAGE_EXCLUSIVE_BIT
	return pages_known();
#else
	return false;
#endif
}

static u64 page_of_entry(u64 entry)
{
	return VALUE_OF(memory_map)->pages + (entry & ENTRY_FRAME) / PAGE_SIZE * STRUCT_PAGE_SIZE;
}

/* The page of @entry in a VMA that maps a file or does not. Its page table is locked. */
static u32 met_at(u64 entry, bool maps_file)
{
	if (entry & ENTRY_SPECIAL)
		return MET_NEVER_WRITABLE;
	if (!pages_known())
		return maps_file ? MET_UNKNOWN : MET_ANON;
	return met_page(page_of_entry(entry));
}

/* The same of a PTE. Where nothing else can be, it is anonymous: that is told at less cost. */
static u32 met_at_pte(u64 entry, struct vm_area_struct *vma)
{
	bool anonymous = !READ(vma, vm_ops);
	u32 met;

	if (!anonymous || !pages_known() || entry & ENTRY_SPECIAL)
		return met_at(entry, !anonymous);
	met = met_anonymous(page_of_entry(entry));
	if (met == MET_EXCLUSIVE || !(READ(vma, vm_flags) & VM_MERGEABLE))
		return met;
	return met_at(entry, false);
}

/*
 * Pages from @start to @end of the record's VMA are write-protected by now. A hint of NUMA
 * balancing gives back what it took, so it was none of what was seen besides.
 */
static void note_protector(struct vma_record *record, u32 protector, u64 start, u64 end)
{
	u32 from = (start - record->vma.start) >> PAGE_SHIFT;
	u32 to = (end - record->vma.start) >> PAGE_SHIFT;

	if (record->protector == protector && (pages_tell() || !record->inherited)) {
		if (from < record->protected_from)
			record->protected_from = from;
		if (to > record->protected_to)
			record->protected_to = to;
		return;
	}
	if (record->protector && protector == PROTECTED_BY_NUMA_HINT)
		return;
	record->protected_from = from;
	record->protected_to = to;
	record->protector_before = record->protector;
	record->protector = protector;
	record->inherited = 0;
	remember_protectors(record);
}

static bool is_tracked(u64 vm_flags)
{
	return SOFT_DIRTY && !(vm_flags & VM_SOFTDIRTY);
}

/*
 * A page that is dirty was soft-dirty as well, until somebody cleared that alone. The VMA need not
 * be tracked any more by now: it may have been put together with a new one.
 */
static bool waits_for_soft_dirty(u64 entry, u64 vm_flags)
{
	if (!SOFT_DIRTY || entry & ENTRY_SOFT_DIRTY)
		return false;
	return entry & (ENTRY_DIRTY | ENTRY_SAVED_DIRTY) || is_tracked(vm_flags);
}

/* What changed the protection of @page last, as far as it was seen. */
static u32 protector_seen(struct vma_record *record, u64 page)
{
	u32 place = (page - record->vma.start) >> PAGE_SHIFT;

	if (record->protector_before &&
	    (place < record->protected_from || place >= record->protected_to))
		return record->protector_before;
	return record->protector;
}

/*
 * Where the pages do not tell: what forks write-protected and nobody wrote to since is taken to be
 * written to before the rest of its VMA. A VMA may be a part of the one that was there then, so
 * what is due in its process comes before what was protected elsewhere in that. All that a child
 * has is a fork's, and what is copied was shared, but for pages that were written to just now.
 */
static bool fork_is_due(struct vma_record *record, struct task_struct *leader, bool seen_here,
			bool copied)
{
	struct place *process;
	u64 hash;

	if ((s32)record->fork_due > 0) {
		count_fork_due(record, -1);
		return true;
	}
	if (seen_here)
		return false;
	if (copied || PROBE(leader, flags) & PF_FORKNOEXEC)
		return true;
	hash = hash_of_process(&record->vma);
	process = places.lookup(&hash);
	if (!process || (s32)process->fork_due <= 0)
		return false;
	COUNT(process->fork_due, -1);
	return true;
}

/* Returns a value of enum protected_by. */
static u32 protector_of(struct vma_record *record, struct task_struct *leader, u64 vm_flags,
			u64 page, u64 entry, u64 met, bool copied)
{
	u32 seen;

	if (met == MET_NEVER_WRITABLE)
		return PROTECTED_BY_NEVER_WRITABLE;
	if (entry & ENTRY_UFFD_WP)
		return PROTECTED_BY_UFFD_WP;
	if (met == MET_SHARED)
		return PROTECTED_BY_FORK;
	if (waits_for_soft_dirty(entry, vm_flags))
		return PROTECTED_BY_SOFT_DIRTY;
	if (met == MET_UNKNOWN)
		return PROTECTED_BY_UNKNOWN;
	seen = protector_seen(record, page);
	if (met != MET_ANON)
		return seen;
	if (fork_is_due(record, leader, seen && !record->inherited, copied))
		return PROTECTED_BY_FORK;
	return seen;
}
