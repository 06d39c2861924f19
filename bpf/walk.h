/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which page tables a protection change touched: told one by one where
 * change_pte_range() can be hooked, else found from the top of the process's
 * page table when change_protection() returns.
 */

#if INSPECT && TRACED_change_pte_range

#ifdef MAX_TABLES
/* Tables that the change a thread is in has had inspected. */
BPF_HASH(budgets, u32, u64, MAX_THREADS);

static bool within_budget(void)
{
	u32 thread = bpf_get_current_pid_tgid();
	u64 *spent = budgets.lookup(&thread), first = 1;

	if (!spent) {
		budgets.update(&thread, &first);
		return true;
	}
	return ++*spent <= MAX_TABLES;
}
#endif

static void inspect_table(struct vma_record *record, struct vm_area_struct *vma, u64 pmd,
			  u64 address, u64 end, u64 cp_flags, u64 changed)
{
	struct scratch *scratch = clean_scratch();
	u64 entry = 0, *base;
	int zero = 0;

	if (!asks_for_writable(vma, cp_flags))
		return;
#ifdef MAX_TABLES
	if (!within_budget()) {
		COUNT(record->not_inspected[OMITTED_LIMIT], changed);
		return;
	}
#endif
	base = direct_map.lookup(&zero);
	if (!base || !scratch)
		return;
	bpf_probe_read_kernel(&entry, sizeof(entry), (void *)pmd);
	scratch->count = (end - address) >> PAGE_SHIFT;
	inspect_ptes(scratch, pte_in(*base + (entry & ENTRY_FRAME), address));
	tally(record, vma, cp_flags, scratch);
}

static bool is_continued(u64 start, u64 end)
{
	return false;
}

static void inspect_range(void *ctx, struct vma_record *record, struct vm_area_struct *vma,
			  u64 start, u64 end, u64 cp_flags, u64 changed)
{
#ifdef MAX_TABLES
	u32 thread = bpf_get_current_pid_tgid();

	budgets.delete(&thread);
#endif
}

#elif INSPECT

/*
 * One run of a program may look at so many tables only before the verifier gives
 * up, so a program calls itself again where more are left: the kernel allows 33
 * such calls.
 */
#define TABLES_PER_RUN	16
#define SPAN		((u64)TABLES_PER_RUN << PMD_SHIFT)

/* By thread: how far an inspection got that goes on in another run. */
BPF_HASH(walks, u32, struct walk, MAX_THREADS);
BPF_PROG_ARRAY(walker, 1);

/*
 * The place of the PTE that maps @address; NOT_MAPPED or HUGE where there is none.
 * @next becomes the first address that this answer does not hold for.
 */
#define NOT_MAPPED	0
#define HUGE		1

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

static bool is_over(volatile struct walk *walk)
{
#ifdef MAX_TABLES
	if (walk->tables >= MAX_TABLES)
		return true;
#endif
	return walk->next >= walk->end;
}

static struct walk *unfinished_walk(u64 start, u64 end)
{
	u32 thread = bpf_get_current_pid_tgid();

	return end - start > SPAN ? walks.lookup(&thread) : NULL;
}

static bool is_continued(u64 start, u64 end)
{
	return unfinished_walk(start, end) != NULL;
}

static void inspect_range(void *ctx, struct vma_record *record, struct vm_area_struct *vma,
			  u64 start, u64 end, u64 cp_flags, u64 changed)
{
	u64 pgd = (u64)PROBE(READ(vma, vm_mm), pgd), *base;
	struct scratch *scratch = clean_scratch();
	u32 thread = bpf_get_current_pid_tgid();
	struct walk *unfinished;
	volatile struct walk *walk;
	int zero = 0;

	base = direct_map.lookup(&zero);
	if (!base || !scratch || !asks_for_writable(vma, cp_flags))
		return;
	unfinished = unfinished_walk(start, end);
	if (unfinished)
		scratch->walk = *unfinished;
	else
		scratch->walk = (struct walk){.next = start, .end = end};
	/* Read again on each turn, as in inspect_ptes(). */
	walk = &scratch->walk;
	for (u32 turn = 0; turn < TABLES_PER_RUN; turn++) {
		u64 address = walk->next, table;

		if (is_over(walk))
			break;
		table = pte_at(pgd, *base, address, &walk->next);
		if (walk->next > walk->end)
			walk->next = walk->end;
		scratch->count = (walk->next - address) >> PAGE_SHIFT;
		if (table == HUGE) {
			walk->huge += scratch->count;
		} else if (table) {
			inspect_ptes(scratch, table);
			walk->tables++;
		}
	}
	walk->accounted += tally(record, vma, cp_flags, scratch);
	if (!is_over(walk)) {
		walks.update(&thread, &scratch->walk);
		walker.call(ctx, 0);
	}
	/* Here it ends: all is inspected, or there are too many tables. */
	COUNT(record->not_inspected[OMITTED_HUGE], walk->huge);
	if (walk->next < walk->end && changed > walk->accounted + walk->huge)
		COUNT(record->not_inspected[OMITTED_LIMIT], changed - walk->accounted - walk->huge);
	if (end - start > SPAN)
		walks.delete(&thread);
}

#else

static bool is_continued(u64 start, u64 end)
{
	return false;
}

static void inspect_range(void *ctx, struct vma_record *record, struct vm_area_struct *vma,
			  u64 start, u64 end, u64 cp_flags, u64 changed)
{
}

#endif
