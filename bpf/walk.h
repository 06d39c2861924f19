/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which page tables a protection change touched: told one by one where
 * change_pte_range() can be hooked, else found from the top of the process's
 * page table when change_protection() returns.
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
	u64 entry = 0, *base;
	int zero = 0;

	if (!walk) {
		walks.update(&thread, &begun);
		walk = walks.lookup(&thread);
	}
	base = direct_map.lookup(&zero);
	if (!walk || !base || !scratch)
		return;
	walk->accounted += changed;
	if (is_limit(walk->tables)) {
		COUNT(record->not_inspected[OMITTED_LIMIT], changed);
		return;
	}
	walk->tables++;
	bpf_probe_read_kernel(&entry, sizeof(entry), (void *)pmd);
	scratch->count = (end - address) >> PAGE_SHIFT;
	inspect_ptes(scratch, pte_in(*base + (entry & ENTRY_FRAME), address));
	tally(record, vma, cp_flags, scratch);
}

static void inspect_range(struct vma_record *record, struct vm_area_struct *vma,
			  u64 start, u64 end, u64 cp_flags, u64 changed)
{
	u32 thread = bpf_get_current_pid_tgid();
	struct walk *walk;
	u64 accounted;

	if (!asks_for_writable(vma, cp_flags))
		return;
	walk = walks.lookup(&thread);
	accounted = walk ? walk->accounted : 0;
	/* What change_pte_range() has not processed was mapped by huge pages. */
	if (changed > accounted)
		COUNT(record->not_inspected[OMITTED_HUGE], changed - accounted);
	if (walk)
		walks.delete(&thread);
}

#elif INSPECT

/*
 * The place of the PTE that maps @address; NOT_MAPPED or HUGE where there is none.
 * @next becomes the first address that this answer does not hold for.
 */
#define NOT_MAPPED	0
#define HUGE		1

/* These map 8 GiB. What bounds it is how long other tasks may have to wait. */
#define TABLES_PER_CHANGE	4096
#define TABLES_PER_TURN		64

static u64 pte_at(u64 pgd, u64 base, u64 address, volatile u64 *next)
{
	u64 table = pgd;

#pragma unroll
	for (u32 shift = PMD_SHIFT + 9 * (PAGE_TABLE_LEVELS - 2); shift >= PMD_SHIFT; shift -= 9) {
		u64 entry = entry_at(table, address, shift);

		*next = ((address >> shift) + 1) << shift;
		if (!(entry & ENTRY_PRESENT))
			return NOT_MAPPED;
		if (shift <= PUD_SHIFT && entry & ENTRY_HUGE)
			return HUGE;
		table = base + (entry & ENTRY_FRAME);
	}
	return pte_in(table, address);
}

/* Returns 0 where no table is left to look at. */
static int (*inspect_next_table)(u64) = LINKED_FUNCTION(1);

int function_1__inspect_next_table(u64 unused)
{
	int zero = 0;
	struct scratch *scratch = scratches.lookup(&zero);
	/* Read again on each turn, as in inspect_ptes(). */
	volatile struct walk *walk;
	u64 address, table;

	if (!scratch)
		return 0;
	walk = &scratch->walk;
	address = walk->next;
	if (is_limit(walk->tables) || address >= walk->end)
		return 0;
	table = pte_at(scratch->pgd, scratch->base, address, &walk->next);
	if (walk->next > walk->end)
		walk->next = walk->end;
	scratch->count = (walk->next - address) >> PAGE_SHIFT;
	if (table == HUGE) {
		walk->huge += scratch->count;
	} else if (table) {
		inspect_ptes(scratch, table);
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

static void inspect_range(struct vma_record *record, struct vm_area_struct *vma,
			  u64 start, u64 end, u64 cp_flags, u64 changed)
{
	struct scratch *scratch = clean_scratch();
	volatile struct walk *walk;
	u64 inspected, *base;
	int zero = 0;

	base = direct_map.lookup(&zero);
	if (!base || !scratch || !asks_for_writable(vma, cp_flags))
		return;
	scratch->pgd = (u64)PROBE(READ(vma, vm_mm), pgd);
	scratch->base = *base;
	scratch->walk = (struct walk){.next = start, .end = end};
	inspect_tables();
	walk = &scratch->walk;
	inspected = walk->huge + tally(record, vma, cp_flags, scratch);
	COUNT(record->not_inspected[OMITTED_HUGE], walk->huge);
	if (walk->next < walk->end && changed > inspected)
		COUNT(record->not_inspected[OMITTED_LIMIT], changed - inspected);
}

#else

static void inspect_range(struct vma_record *record, struct vm_area_struct *vma,
			  u64 start, u64 end, u64 cp_flags, u64 changed)
{
}

#endif
