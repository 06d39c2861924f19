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
/* A PTE's bits that tell what became of it, gathered into a number. */
#define CLASS_PRESENT		0x01
#define CLASS_RW		0x02
#define CLASS_DIRTY		0x04	/* bit 6, or bit 58: a read-only PTE's since Linux 6.6 */
#define CLASS_UFFD_WP		0x08
#define CLASS_SOFT_DIRTY	0x10
#define CLASSES			0x20
#define CLASS_OF(pte)	(((pte) & 3) | (((pte) >> 4 | (pte) >> 56) & 4) | ((pte) >> 7 & 24))

#define PTES_AT_ONCE		8

/* How far the inspection of a change got: in addresses, PTEs, page tables. */
struct walk {
	u64 next;
	u64 end;
	u64 accounted;
	u64 huge;
	u64 tables;
};

/*
 * A copy of a page table, and how many PTEs of each class were seen. Of the two
 * programs that inspect only one is loaded, and it does not run twice at a time
 * on one CPU.
 */
struct scratch {
	u64 ptes[2 * ENTRIES + PTES_AT_ONCE];	/* half of it is used */
	u32 classes[CLASSES];
	u64 count;
	u64 pgd;
	u64 base;	/* of the kernel's map of all memory */
	struct walk walk;
};

BPF_PERCPU_ARRAY(scratches, struct scratch, 1);

/*
 * Where the kernel maps all physical memory (page_offset_base), taken from a
 * page table whose place is known both ways. Bits that mark encrypted memory
 * are in every entry alike, so they cancel out.
 */
BPF_ARRAY(direct_map, u64, 1);

static void learn_direct_map(struct vm_fault *vmf)
{
	u64 *place, pmd = 0, table;
	int zero = 0;

	place = direct_map.lookup(&zero);
	if (!place || *place)
		return;
	bpf_probe_read_kernel(&pmd, sizeof(pmd), PROBE(vmf, pmd));
	table = (u64)PROBE(vmf, pte) & PAGE_MASK;
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

static struct scratch *clean_scratch(void)
{
	int zero = 0;
	struct scratch *scratch = scratches.lookup(&zero);

	if (scratch)
		__builtin_memset(scratch->classes, 0, sizeof(scratch->classes));
	return scratch;
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
			u64 class = CLASS_OF(scratch->ptes[done + index]);

			asm volatile("" : "+r"(class));
			scratch->classes[class & (CLASSES - 1)]++;
		}
	}
}

/* Count what was seen. Returns how many PTEs that were. */
static u64 tally(struct vma_record *record, struct vm_area_struct *vma, u64 cp_flags,
		 struct scratch *scratch)
{
	u64 inspected = 0, writable = 0, uffd_wp = 0, soft_dirty = 0, clean = 0;
	u64 vm_flags = READ(vma, vm_flags);
	bool tracked = SOFT_DIRTY && !(vm_flags & VM_SOFTDIRTY);
	/* Clean pages: refused in shared mappings, and before d84887739d5c (6.2) in all. */
	bool clean_refused = CLEAN_PAGES_REFUSED || vm_flags & VM_SHARED;

#pragma unroll
	for (u32 class = CLASS_PRESENT; class < CLASSES; class += CLASS_RW) {
		u32 number = scratch->classes[class];

		inspected += number;
		if (class & CLASS_RW)
			writable += number;
		else if (class & CLASS_UFFD_WP)
			uffd_wp += number;
		else if (!(class & CLASS_SOFT_DIRTY) && tracked)
			soft_dirty += number;
		else if (!(class & CLASS_DIRTY) && clean_refused)
			clean += number;
	}
	COUNT(record->ptes_inspected, inspected);
	if (cp_flags & MM_CP_UFFD_WP_RESOLVE)
		COUNT(record->made_writable[CAUSE_UFFD_UNPROTECT], writable);
	else
		COUNT(record->made_writable[CAUSE_MPROTECT], writable);
	if (inspected != writable) {
		COUNT(record->left_readonly[REASON_UFFD_WP], uffd_wp);
		COUNT(record->left_readonly[REASON_SOFT_DIRTY], soft_dirty);
		COUNT(record->left_readonly[REASON_CLEAN], clean);
		COUNT(record->left_readonly[REASON_SHARED],
		      inspected - writable - uffd_wp - soft_dirty - clean);
	}
	return inspected;
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
