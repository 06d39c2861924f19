/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which page tables a protection change touched: told one by one where
 * change_pte_range() can be hooked, else found from the top of the process's
 * page table when change_protection() returns. So are huge pages, always.
 */

#if INSPECT

static bool is_limit(u64 tables)
{
#ifdef MAX_TABLES
	return tables >= MAX_TABLES;
#else
	return false;
#endif
}

#endif

#if INSPECT && TRACED_change_pte_range
/* By thread: how far the inspection got of the change that the thread is in. */
BPF_HASH(walks, u32, struct walk, MAX_THREADS);
#endif

/* One that was begun in a change whose return was not told. */
static void forget_walk(void)
{
#if INSPECT && TRACED_change_pte_range
	u32 thread = bpf_get_current_pid_tgid();

	walks.delete(&thread);
#endif
}

#if INSPECT && TRACED_change_pte_range

static void inspect_table(struct vma_record *record, struct vm_area_struct *vma, u64 pmd,
			  u64 address, u64 end, u64 cp_flags, u64 changed)
{
	struct scratch *scratch = clean_scratch();
	u32 thread = bpf_get_current_pid_tgid();
	struct walk *walk = walks.lookup(&thread), begun = {};
	u64 entry = 0, base = VALUE_OF(memory_map)->base;

	if (!walk) {
		walks.update(&thread, &begun);
		walk = walks.lookup(&thread);
	}
	if (!walk || !base || !scratch)
		return;
	walk->accounted += changed;
	if (is_limit(walk->tables)) {
		COUNT(record->counted.ptes_not_inspected[OMISSION_LIMIT], changed);
		return;
	}
	walk->tables++;
	bpf_probe_read_kernel(&entry, sizeof(entry), (void *)pmd);
	scratch->count = (end - address) >> PAGE_SHIFT;
	inspect_ptes(scratch, pte_in(base + (entry & ENTRY_FRAME), address));
	tally(record, vma, cp_flags, scratch);
}

/* How many pages' PTEs were looked at, told or said to be too many, of the change that ends. */
static u64 accounted(void)
{
	u32 thread = bpf_get_current_pid_tgid();
	struct walk *walk = walks.lookup(&thread);
	u64 pages = walk ? walk->accounted : 0;

	if (walk)
		walks.delete(&thread);
	return pages;
}

#else

static u64 accounted(void)
{
	return 0;
}

#endif

#if INSPECT

/* These map 8 GiB. What bounds it is how long other tasks may have to wait. */
#define TABLES_PER_CHANGE	4096
#define TABLES_PER_TURN		64

/* Returns 0 where no table is left to look at. */
static int (*inspect_next_table)(u64) = LINKED_FUNCTION(1);

int function_1__inspect_next_table(u64 unused)
{
	int zero = 0;
	struct scratch *scratch = scratches.lookup(&zero);
	/* Read again on each turn, as in inspect_ptes(). */
	volatile struct walk *walk;
	struct leaf leaf;
	u64 address;

	if (!scratch)
		return 0;
	walk = &scratch->walk;
	address = walk->next;
	if (is_limit(walk->tables) || address >= walk->end)
		return 0;
	leaf = leaf_at(scratch->pgd, scratch->base, address, &walk->next);
	if (walk->next > walk->end)
		walk->next = walk->end;
	scratch->count = (walk->next - address) >> PAGE_SHIFT;
	if (!leaf.place)
		return 1;
	if (leaf.shift != PAGE_SHIFT) {
		walk->huge += scratch->count;
		/* What mprotect() makes of a PUD is known of hugetlb only. */
		if (leaf.shift == PMD_SHIFT || scratch->hugetlb)
			count_class(scratch->huge, leaf.entry);
		else
			walk->above += scratch->count;
	} else if (!scratch->ptes_told) {
		inspect_ptes(scratch, leaf.place);
		walk->tables++;
	}
	return 1;
}

/*
 * The verifier follows each turn of the loop, and compares it with those before: fewer turns, of
 * more calls, are fewer to compare.
 */
static void inspect_tables(void)
{
	for (u32 turn = 0; turn < TABLES_PER_CHANGE / TABLES_PER_TURN; turn++) {
#pragma unroll
		for (u32 each = 0; each < TABLES_PER_TURN; each++)
			if (!inspect_next_table(0))
				return;
	}
}

/* NULL where that cannot be. Else what there is from @start to @end is in what is returned. */
static struct scratch *looked_at(struct vm_area_struct *vma, u64 start, u64 end, bool ptes_told)
{
	struct scratch *scratch = clean_scratch();
	u64 base = VALUE_OF(memory_map)->base;

	if (!base || !scratch)
		return NULL;
	scratch->pgd = (u64)PROBE(READ(vma, vm_mm), pgd);
	scratch->base = base;
	scratch->hugetlb = !!(READ(vma, vm_flags) & VM_HUGETLB);
	scratch->ptes_told = ptes_told;
	scratch->walk = (struct walk){.next = start, .end = end};
	__builtin_memset(scratch->huge, 0, sizeof(scratch->huge));
	inspect_tables();
	return scratch;
}

static void inspect_range(struct vma_record *record, struct vm_area_struct *vma,
			  u64 start, u64 end, u64 cp_flags, u64 changed)
{
	struct scratch *scratch;
	volatile struct walk *walk;
	u64 inspected;

	if (!asks_for_writable(vma, cp_flags))
		return;
	inspected = accounted();
	if (changed <= inspected)
		return;
	scratch = looked_at(vma, start, end, TRACED_change_pte_range);
	if (!scratch)
		return;
	walk = &scratch->walk;
	inspected += walk->huge;
	if (!TRACED_change_pte_range)
		inspected += tally(record, vma, cp_flags, scratch);
	if (walk->huge) {
		tally_huge(record, vma, cp_flags, scratch);
		COUNT(record->counted.ptes_not_inspected[OMISSION_HUGE], walk->above);
	}
	if (walk->next < walk->end && changed > inspected)
		COUNT(record->counted.ptes_not_inspected[OMISSION_LIMIT], changed - inspected);
}

#else

static void inspect_range(struct vma_record *record, struct vm_area_struct *vma,
			  u64 start, u64 end, u64 cp_flags, u64 changed)
{
}

#endif
