/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Looking at the PTEs that a protection change leaves behind. pte_modify() takes
 * the write bit from the new protection, so where that lacks it a PTE that is
 * writable afterwards was made so by can_change_pte_writable(): looking at the
 * exit is enough, what the PTE was before does not matter.
 */

/*
 * MM_CP_TRY_CHANGE_WRITABLE, since the optimization. Before, this bit was
 * MM_CP_DIRTY_ACCT, for shared mappings only: dirty accounting, something else.
 */
#define MM_CP_TRY_CHANGE_WRITABLE	0x1
#define MM_CP_PROT_NUMA			0x2
#define MM_CP_UFFD_WP			0x4
#define MM_CP_UFFD_WP_RESOLVE		0x8

#if INSPECT

#define VM_WRITE		0x00000002ULL
#define VM_SOFTDIRTY		0x08000000ULL
#define PAGE_SHIFT		12
#define PMD_SHIFT		21
#define PUD_SHIFT		30
#define ENTRIES			512
#define ENTRY_PRESENT		0x001ULL
#define ENTRY_RW		0x002ULL
#define ENTRY_HUGE		0x080ULL
#define ENTRY_FRAME		0x000ffffffffff000ULL
#define BIT_RW			1
#define BIT_DIRTY		6
#define BIT_UFFD_WP		10
#define BIT_SOFT_DIRTY		11
#define BIT_SAVED_DIRTY		58

/* Read so many PTEs at a time: a program may be preempted, so its buffer is on its own stack. */
#define PTES_AT_ONCE		8

/*
 * Where the kernel maps all physical memory (page_offset_base), taken from a
 * page table whose place is known both ways. Bits that mark encrypted memory
 * are in every entry alike, so they cancel out.
 */
BPF_ARRAY(direct_map, u64, 1);

struct inspection {
	u64 inspected;
	u64 writable;
	u64 uffd_wp;
	u64 soft_dirty;
	u64 clean;
	u64 huge;
};

static void learn_direct_map(struct vm_fault *vmf)
{
	u64 *place, pmd = 0, table;
	int zero = 0;

	place = direct_map.lookup(&zero);
	if (!place || *place)
		return;
	bpf_probe_read_kernel(&pmd, sizeof(pmd), (void *)READ(vmf, pmd));
	table = (u64)READ(vmf, pte) & PAGE_MASK;
	if (!(pmd & ENTRY_PRESENT) || pmd & ENTRY_HUGE)
		return;
	table -= pmd & ENTRY_FRAME;
	/* The map begins at a multiple of 1 GiB; anything else was no pair. */
	if (!(table & ((1ULL << PUD_SHIFT) - 1)))
		*place = table;
}

static bool asks_for_writable(struct vm_area_struct *vma, u64 cp_flags)
{
	u64 vm_flags = READ(vma, vm_flags);

	if (!(cp_flags & MM_CP_TRY_CHANGE_WRITABLE) || !(vm_flags & VM_WRITE) ||
	    vm_flags & VM_HUGETLB)
		return false;
	if (!(vm_flags & VM_SHARED))
		return true;
	/* The protection of some shared mappings is writable of itself. */
	return OPTIMIZED && !(PROBE(vma, vm_page_prot.pgprot) & ENTRY_RW);
}

/*
 * Count @count PTEs from @table on. Without a branch for each PTE: a branch that
 * meets again doubles what the verifier has to follow on every turn.
 */
static void inspect_ptes(struct inspection *seen, u64 table, u32 count, u64 tracking)
{
	for (u32 done = 0; done < ENTRIES; done += PTES_AT_ONCE) {
		u64 ptes[PTES_AT_ONCE], every = ENTRY_PRESENT | ENTRY_RW, asked = ~0ULL;

		if (done >= count)
			break;
		/* May read beyond the table: what was not asked for does not count. */
		bpf_probe_read_kernel(ptes, sizeof(ptes), (void *)(table + done * sizeof(u64)));
		if (count - done < PTES_AT_ONCE)
			asked = ~(~0ULL << (count - done));
#pragma unroll
		for (u32 index = 0; index < PTES_AT_ONCE; index++)
			every &= ptes[index];
		if (every == (ENTRY_PRESENT | ENTRY_RW) && asked == ~0ULL) {
			seen->inspected += PTES_AT_ONCE;
			seen->writable += PTES_AT_ONCE;
			continue;
		}
#pragma unroll
		for (u32 index = 0; index < PTES_AT_ONCE; index++) {
			u64 pte = ptes[index];
			u64 present = pte & asked >> index & ENTRY_PRESENT;
			u64 writable = present & pte >> BIT_RW;
			u64 readonly = present ^ writable;
			u64 uffd_wp = readonly & pte >> BIT_UFFD_WP;
			u64 untouched = readonly & ~(pte >> BIT_UFFD_WP | pte >> BIT_SOFT_DIRTY) & tracking;
			u64 dirty = pte >> BIT_DIRTY | pte >> BIT_SAVED_DIRTY;

			seen->inspected += present;
			seen->writable += writable;
			seen->uffd_wp += uffd_wp;
			seen->soft_dirty += untouched;
			seen->clean += readonly & ~(uffd_wp | untouched | dirty);
		}
	}
}

static void tally(struct vma_record *record, struct vm_area_struct *vma, u64 cp_flags,
		  struct inspection *seen)
{
	/* Clean pages: refused in shared mappings, and before d84887739d5c (6.2) in all. */
	u64 clean = READ(vma, vm_flags) & VM_SHARED || CLEAN_PAGES_REFUSED ? seen->clean : 0;

	if (cp_flags & MM_CP_UFFD_WP_RESOLVE)
		COUNT(record->made_writable[CAUSE_UFFD_UNPROTECT], seen->writable);
	else
		COUNT(record->made_writable[CAUSE_MPROTECT], seen->writable);
	COUNT(record->not_inspected[OMITTED_HUGE], seen->huge);
	if (seen->inspected == seen->writable)
		return;
	COUNT(record->left_readonly[REASON_UFFD_WP], seen->uffd_wp);
	COUNT(record->left_readonly[REASON_SOFT_DIRTY], seen->soft_dirty);
	COUNT(record->left_readonly[REASON_CLEAN], clean);
	COUNT(record->left_readonly[REASON_SHARED], seen->inspected - seen->writable -
	      seen->uffd_wp - seen->soft_dirty - clean);
}

static u64 tracks_soft_dirty(struct vm_area_struct *vma)
{
	return SOFT_DIRTY && !(READ(vma, vm_flags) & VM_SOFTDIRTY);
}

static u64 entry_at(u64 table, u64 address, u32 shift)
{
	u64 entry = 0;

	bpf_probe_read_kernel(&entry, sizeof(entry),
			      (void *)(table + (address >> shift & (ENTRIES - 1)) * sizeof(u64)));
	return entry;
}

/* The place of the PTE that maps @address in a page table. */
static u64 pte_in(u64 table, u64 address)
{
	return table + (address >> PAGE_SHIFT & (ENTRIES - 1)) * sizeof(u64);
}

#endif
