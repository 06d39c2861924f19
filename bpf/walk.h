/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which page tables a protection change touched: told one by one where
 * change_pte_range() can be hooked, else found from the top of the process's
 * page table when change_protection() returns.
 */

#if INSPECT

/* By thread: how far the inspection got of the change that the thread is in. */
BPF_HASH(walks, u32, struct walk, MAX_THREADS);

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

static bool is_continued(u64 start, u64 end)
{
	return false;
}

static void inspect_range(void *ctx, struct vma_record *record, struct vm_area_struct *vma,
			  u64 start, u64 end, u64 cp_flags, u64 changed)
{
	u32 thread = bpf_get_current_pid_tgid();
	struct walk *walk;

	if (!asks_for_writable(vma, cp_flags))
		return;
	walk = walks.lookup(&thread);
	/* What change_pte_range() has not processed was mapped by huge pages. */
	COUNT(record->not_inspected[OMITTED_HUGE], changed - (walk ? walk->accounted : 0));
	if (walk)
		walks.delete(&thread);
}

#elif INSPECT

/*
 * One run of a program may look at so many tables only before the verifier gives
 * up, so a program calls itself again where more are left: the kernel allows 33
 * such calls.
 */
#define TABLES_PER_RUN	16
#define SPAN		((u64)TABLES_PER_RUN << PMD_SHIFT)

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
	return is_limit(walk->tables) || walk->next >= walk->end;
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
		scratch->walk = (struct walk){.next = start, .end = end, .changed = changed};
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
	if (walk->next < walk->end && walk->changed > walk->accounted + walk->huge)
		COUNT(record->not_inspected[OMITTED_LIMIT],
		      walk->changed - walk->accounted - walk->huge);
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
