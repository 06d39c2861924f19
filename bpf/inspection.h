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
/* A PTE's bits that tell what became of it, gathered into a number. */
#define CLASS_PRESENT		0x01
#define CLASS_RW		0x02
#define CLASS_DIRTY		0x04	/* bit 6, or bit 58: a read-only PTE's since Linux 6.6 */
#define CLASS_UFFD_WP		0x08
#define CLASS_SOFT_DIRTY	0x10
#define CLASSES			0x20
#define CLASS_OF(pte)	(((pte) & 3) | (((pte) >> 4 | (pte) >> 56) & 4) | ((pte) >> 7 & 24))

#define PTES_AT_ONCE		8

/* How far the inspection of a change got: in addresses, pages, page tables. */
struct walk {
	u64 next;
	u64 end;
	u64 accounted;
	u64 huge;	/* mapped by huge pages, */
	u64 above;	/* and of these by what was not looked at */
	u64 tables;
};

/*
 * A copy of a page table, and how many PTEs and huge pages of each class were seen. Of the two
 * programs that inspect only one is loaded, and it does not run twice at a time
 * on one CPU.
 */
struct scratch {
	u64 ptes[2 * ENTRIES + PTES_AT_ONCE];	/* half of it is used */
	u32 classes[CLASSES];
	u32 huge[CLASSES];
	u64 count;
	u64 pgd;
	u64 base;	/* of the kernel's map of all memory */
	u64 hugetlb;
	u64 ptes_told;	/* one by one, by change_pte_range(): those are not to be looked at */
	struct walk walk;
};

BPF_PERCPU_ARRAY(scratches, struct scratch, 1);

static bool asks_for_writable(struct vm_area_struct *vma, u64 cp_flags)
{
	u64 vm_flags = READ(vma, vm_flags);

	if (!(cp_flags & MM_CP_TRY_CHANGE_WRITABLE) || !(vm_flags & VM_WRITE))
		return false;
	if (!(vm_flags & VM_SHARED))
		return true;
	/* The protection of some shared mappings is writable of itself. */
	return OPTIMIZED && !(PROBE(vma, vm_page_prot.pgprot) & ENTRY_RW);
}

static struct scratch *clean_scratch(void)
{
	int zero = 0;
	struct scratch *scratch = scratches.lookup(&zero);

	if (scratch)
		__builtin_memset(scratch->classes, 0, sizeof(scratch->classes));
	return scratch;
}

static void count_class(u32 *classes, u64 entry)
{
	u64 class = CLASS_OF(entry);

	/* What it can be is to be seen where it is used. */
	asm volatile("" : "+r"(class));
	classes[class & (CLASSES - 1)]++;
}

/*
 * Class as many PTEs from @table on as scratch->count says. A branch for each
 * PTE would make the verifier follow each combination; so there is one for each
 * table, for the usual case that all are writable. For the same reason the loops
 * read their end from the map on each turn: what was found out about it on one
 * turn says nothing on the next.
 */
static void inspect_ptes(struct scratch *scratch, u64 table)
{
	volatile u64 *end = &scratch->count;
	u64 every = ENTRY_PRESENT | ENTRY_RW, count = *end & (2 * ENTRIES - 1);
	u32 padding = -(u32)count & (PTES_AT_ONCE - 1);

	bpf_probe_read_kernel(scratch->ptes, count * sizeof(u64), (void *)table);
	/* Up to a whole number of loads: writable ones, taken off again. */
#pragma unroll
	for (u32 index = 0; index < PTES_AT_ONCE; index++)
		scratch->ptes[count + index] = ENTRY_PRESENT | ENTRY_RW;

	for (u32 done = 0; done < ENTRIES && done < *end; done += PTES_AT_ONCE) {
#pragma unroll
		for (u32 index = 0; index < PTES_AT_ONCE; index++)
			every &= scratch->ptes[done + index];
	}
	if (every == (ENTRY_PRESENT | ENTRY_RW)) {
		scratch->classes[CLASS_PRESENT | CLASS_RW] += *end;
		return;
	}
	scratch->classes[CLASS_PRESENT | CLASS_RW] -= padding;
	for (u32 done = 0; done < ENTRIES && done < *end; done += PTES_AT_ONCE) {
#pragma unroll
		for (u32 index = 0; index < PTES_AT_ONCE; index++) {
			count_class(scratch->classes, scratch->ptes[done + index]);
		}
	}
}

/* How many entries there were, and what became of them. */
struct sorted {
	u64 all;
	u64 writable;
	u64 uffd_wp;
	u64 soft_dirty;
	u64 clean;
	u64 others;
};

static struct sorted sorted(u32 *classes, bool tracked)
{
	struct sorted found = {};

#pragma unroll
	for (u32 class = CLASS_PRESENT; class < CLASSES; class += CLASS_RW) {
		u32 number = classes[class];

		found.all += number;
		if (class & CLASS_RW)
			found.writable += number;
		else if (class & CLASS_UFFD_WP)
			found.uffd_wp += number;
		else if (!(class & CLASS_SOFT_DIRTY) && tracked)
			found.soft_dirty += number;
		else if (!(class & CLASS_DIRTY))
			found.clean += number;
		else
			found.others += number;
	}
	return found;
}

#define COUNT_WRITABLE(family, cp_flags, number) do {			\
	if ((cp_flags) & MM_CP_UFFD_WP_RESOLVE)				\
		COUNT(record->counted.family[CAUSE_UFFD_UNPROTECT], number);	\
	else								\
		COUNT(record->counted.family[CAUSE_MPROTECT], number);	\
} while (0)

/* Count the huge pages that were seen, to the kernel's one entry each. */
static void tally_huge(struct vma_record *record, struct vm_area_struct *vma, u64 cp_flags,
		       struct scratch *scratch)
{
	u64 vm_flags = READ(vma, vm_flags);
	struct sorted huge = sorted(scratch->huge, is_tracked(vm_flags));
	u64 left = huge.all - huge.writable;

	COUNT_WRITABLE(pmds_made_writable, cp_flags, huge.writable);
	if (vm_flags & VM_HUGETLB) {
		COUNT(record->counted.pmds_left_readonly[PMD_REASON_HUGETLB], left);
		return;
	}
	COUNT(record->counted.pmds_left_readonly[PMD_REASON_UFFD_WP], huge.uffd_wp);
	COUNT(record->counted.pmds_left_readonly[PMD_REASON_SOFT_DIRTY], huge.soft_dirty);
	left -= huge.uffd_wp + huge.soft_dirty;
	if (HUGE_PAGES_REFUSED)
		COUNT(record->counted.pmds_left_readonly[PMD_REASON_HUGE], left);
	else
		COUNT(record->counted.pmds_left_readonly[PMD_REASON_SHARED], left);
}

/* Count what was seen. Returns how many PTEs that were. */
static u64 tally(struct vma_record *record, struct vm_area_struct *vma, u64 cp_flags,
		 struct scratch *scratch)
{
	u64 vm_flags = READ(vma, vm_flags);
	/* Clean pages: refused in shared mappings, and before d84887739d5c (6.2) in all. */
	bool clean_refused = CLEAN_PAGES_REFUSED || vm_flags & VM_SHARED;
	struct sorted ptes = sorted(scratch->classes, is_tracked(vm_flags));

	COUNT(record->counted.ptes_inspected, ptes.all);
	COUNT_WRITABLE(ptes_made_writable, cp_flags, ptes.writable);
	if (ptes.all != ptes.writable) {
		COUNT(record->counted.ptes_left_readonly[REASON_UFFD_WP], ptes.uffd_wp);
		COUNT(record->counted.ptes_left_readonly[REASON_SOFT_DIRTY], ptes.soft_dirty);
		if (clean_refused)
			COUNT(record->counted.ptes_left_readonly[REASON_CLEAN], ptes.clean);
		else
			ptes.others += ptes.clean;
		COUNT(record->counted.ptes_left_readonly[REASON_SHARED], ptes.others);
	}
	return ptes.all;
}

#endif
