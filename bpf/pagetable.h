/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the entries of a page table are. PTEs, and the PMDs and PUDs that map huge pages, keep the
 * same things in the same bits.
 */

#define PAGE_SHIFT		12
#define PAGE_SIZE		(1ULL << PAGE_SHIFT)
#define PMD_SHIFT		21
#define PUD_SHIFT		30
#define ENTRIES			512
#define ENTRY_PRESENT		0x001ULL
#define ENTRY_RW		0x002ULL
#define ENTRY_DIRTY		0x040ULL
#define ENTRY_HUGE		0x080ULL
#define ENTRY_SAVED_DIRTY	(1ULL << 58)	/* of a read-only one, since Linux 6.6 */
#define ENTRY_UFFD_WP		0x400ULL
#define ENTRY_FRAME		0x000ffffffffff000ULL

/*
 * Where the kernel maps all physical memory (page_offset_base), and where its struct pages are
 * (vmemmap_base; 0: not known). The first is taken from a page table whose place is known by its
 * entry and by its address, the second from the stack we run on, of which the kernel keeps the struct
 * pages and its page table tells the frames. Bits that mark encrypted memory are in every entry
 * alike, so they cancel out.
 */
struct memory_map {
	u64 base;
	u64 pages;
};

BPF_ARRAY(memory_map, struct memory_map, 1);
#define VALUE_memory_map	4

/* Both begin at a multiple of 1 GiB; anything else was no pair. */
static bool is_map(u64 address)
{
	return !(address & ((1ULL << PUD_SHIFT) - 1));
}

static u64 place_in(u64 table, u64 address, u32 shift)
{
	return table + (address >> shift & (ENTRIES - 1)) * sizeof(u64);
}

static u64 entry_at(u64 place)
{
	u64 entry = 0;

	bpf_probe_read_kernel(&entry, sizeof(entry), (void *)place);
	return entry;
}

/* The place of the PTE that maps @address in a page table. */
static u64 pte_in(u64 table, u64 address)
{
	return place_in(table, address, PAGE_SHIFT);
}

/* What maps an address: a PTE, or the entry of a huge page. */
struct leaf {
	u64 place;	/* 0: nothing maps it */
	u64 entry;	/* of a huge page: what is there */
	u32 shift;	/* of how many addresses */
};

/* @next becomes the first address that this answer does not hold for. */
static struct leaf leaf_at(u64 pgd, u64 base, u64 address, volatile u64 *next)
{
	struct leaf leaf = {};
	u64 table = pgd;

#pragma unroll
	for (u32 shift = PMD_SHIFT + 9 * (PAGE_TABLE_LEVELS - 2); shift >= PMD_SHIFT; shift -= 9) {
		u64 place = place_in(table, address, shift), entry = entry_at(place);

		*next = ((address >> shift) + 1) << shift;
		if (!(entry & ENTRY_PRESENT))
			return leaf;
		if (shift <= PUD_SHIFT && entry & ENTRY_HUGE) {
			leaf.place = place;
			leaf.entry = entry;
			leaf.shift = shift;
			return leaf;
		}
		table = base + (entry & ENTRY_FRAME);
	}
	leaf.place = pte_in(table, address);
	leaf.shift = PAGE_SHIFT;
	return leaf;
}

static u64 where_pages_are(struct vm_fault *vmf, u64 base)
{
#if STRUCT_PAGE_KNOWN && defined(HAVE_STACK_PAGES)
	struct task_struct *current = (void *)bpf_get_current_task();
	struct vm_struct *stack = PROBE(current, stack_vm_area);
	u64 pgd = (u64)PROBE(PROBE(PROBE(vmf, vma), vm_mm), pgd), next;
	struct leaf leaf = leaf_at(pgd, base, (u64)PROBE(stack, addr), &next);
	u64 page = entry_at((u64)PROBE(stack, pages)), frame = entry_at(leaf.place) & ENTRY_FRAME;
	u64 pages = page - frame / PAGE_SIZE * STRUCT_PAGE_SIZE;

	return page && frame && leaf.shift == PAGE_SHIFT && is_map(pages) ? pages : 0;
#else
	return 0;
#endif
}

static void learn_memory_map(struct vm_fault *vmf)
{
	struct memory_map *map = VALUE_OF(memory_map);
	u64 pmd = 0, base;

	if (map->base)
		return;
	bpf_probe_read_kernel(&pmd, sizeof(pmd), PROBE(vmf, pmd));
	if (!(pmd & ENTRY_PRESENT) || pmd & ENTRY_HUGE)
		return;
	base = ((u64)PROBE(vmf, pte) & PAGE_MASK) - (pmd & ENTRY_FRAME);
	if (!is_map(base))
		return;
	map->pages = where_pages_are(vmf, base);
	map->base = base;
}
