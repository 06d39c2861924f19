/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From where a program changes protection and writes, as addresses: its files are read for
 * symbols in user space, afterwards. The kernel could say a build ID and an offset
 * for each frame, but not here: to look at VMAs it needs the mmap_lock that
 * mprotect() and a page fault hold. So executable memory is noted as it is mapped.
 */

#if STACKS

#define VM_EXEC		0x00000004ULL
#define THREAD_SIZE	16384
#define FRED_PADDING	16	/* above pt_regs, where the kernel is built with CONFIG_X86_FRED */
#define USER_CS		0x33	/* the code segment of 64-bit programs */

/* One goes with each of the two tables of records, so that both are of the same interval. */
BPF_HASH(stacks_a, struct call_site, u64, MAX_RECORDS);
BPF_HASH(stacks_b, struct call_site, u64, MAX_RECORDS);
/* Too large for the stack. Two programs that note one do not run at a time on one CPU. */
BPF_PERCPU_ARRAY(sites, struct call_site, 1);
BPF_HASH(code, struct code_key, struct code_record, MAX_RECORDS);

static void stack_lost(void)
{
	int zero = 0;
	struct health_record *lost = health.lookup(&zero);

	if (lost)
		COUNT(lost->stacks_full, 1);
}

/*
 * What is on top of the user stack. A C library's mprotect() pushes nothing before
 * it enters the kernel (its ioctl() does), so it is where it returns to: the frame
 * that frame pointers skip. pt_regs are at the end of the kernel stack; the right
 * ones hold the instruction pointer that is known. A 32-bit program enters the kernel
 * through the vDSO, which does push: nothing is said of it.
 */
static u64 stack_top(u64 ip)
{
	u64 end = (u64)PROBE((struct task_struct *)bpf_get_current_task(), stack) + THREAD_SIZE;
	struct pt_regs *regs = (struct pt_regs *)end - 1;
	u64 word = 0;

	if (PROBE(regs, ip) != ip)
		regs = (struct pt_regs *)(end - FRED_PADDING) - 1;
	if (PROBE(regs, ip) == ip && (u16)PROBE(regs, cs) == USER_CS)
		bpf_probe_read_user(&word, sizeof(word), (void *)PROBE(regs, sp));
	return word;
}

/* One of so many is noted. */
static bool is_noted(void)
{
#if STACKS > 1
	return bpf_get_prandom_u32() % STACKS == 0;
#else
	return true;
#endif
}

/* How often that was the stack, in the table that goes with a table of records. */
static u64 *times_of(u32 half, struct call_site *site)
{
	return half ? stacks_b.lookup(site) : stacks_a.lookup(site);
}

/* What is counted in @record, of @table, is counted by its stack too. */
static void note_stack(void *ctx, void *table, struct vma_record *record, u32 event, u32 what,
		       u32 origin)
{
	u32 kind = TIMINGS, half, zero = 0;
	struct call_site *site;
	struct vma_record *head;
	u64 *times, none = 0;

	if (!is_noted())
		return;
	head = bpf_map_lookup_elem(table, &kind);
	site = sites.lookup(&zero);
	if (!head || !site)
		return;
	half = head->kind;
	__builtin_memset(site, 0, sizeof(*site));
	site->vma = record->vma;
	site->event = event;
	site->what = what;
	site->origin = origin;
	if (origin != ORIGIN_REMOTE)
		bpf_get_stack(ctx, site->frames, sizeof(site->frames), BPF_F_USER_STACK);
	if (event == EVENT_CHANGE && what == CAUSE_MPROTECT)
		site->stack_top = stack_top(site->frames[0]);
	times = times_of(half, site);
	if (!times) {
		/* Another CPU may do so at the same time. */
		if (half)
			stacks_b.insert(site, &none);
		else
			stacks_a.insert(site, &none);
		times = times_of(half, site);
	}
	if (times)
		COUNT(*times, 1);
	else
		stack_lost();
}

/* A NUMA hint is the kernel's own idea: no call is behind it. */
static void note_change(void *ctx, void *table, struct vma_record *record,
			struct vm_area_struct *vma, u32 cause)
{
	struct task_struct *current = CURRENT_TASK();

	/* Not its own: a monitor acts for another process. */
	if (READ(vma, vm_mm) != TASK_READ(current, mm) || cause == CAUSE_NUMA_HINT)
		return;
	note_stack(ctx, table, record, EVENT_CHANGE, cause, ORIGIN_KERNEL);
}

/* A write fault is done and counted. */
static void note_fault(void *ctx, void *table, struct vma_record *record, u32 outcome, u32 origin)
{
	note_stack(ctx, table, record, EVENT_FAULT, outcome, origin);
}

/* execve() maps the program before it is traced. */
static void code_mapped(struct file *file, u64 start, u64 length, u64 vm_flags, u64 pgoff)
{
	struct subject subject = subject_current(CURRENT_TASK(), bpf_get_current_pid_tgid() >> 32);
	struct code_key key = {.image = subject.image, .start = start, .tgid = subject.tgid};
	struct code_record record = {
		.mapped_ns = bpf_ktime_get_ns(),
		.end = start + ((length + ~PAGE_MASK) & PAGE_MASK),
		.offset = pgoff * (~PAGE_MASK + 1),
	};

	if (is_error(start) || !(vm_flags & VM_EXEC))
		return;
	if (tracing_of(subject.tgid) < TRACE_FROM_EXEC || !passes_filters(subject.leader))
		return;
	if (file) {
		struct inode *inode = PROBE(file, f_inode);
		struct super_block *sb = PROBE(inode, i_sb);
		u64 address = 0;

		record.inode = PROBE(inode, i_ino);
		record.dev = PROBE(sb, s_dev);
		/* Read back, it is a number to the verifier. */
		bpf_probe_read_kernel(&address, sizeof(address), &file);
		record.path = remember_file(address);
	}
	if (code.update(&key, &record))
		stack_lost();
}

#else

static void note_change(void *ctx, void *table, struct vma_record *record,
			struct vm_area_struct *vma, u32 cause)
{
}

static void note_fault(void *ctx, void *table, struct vma_record *record, u32 outcome, u32 origin)
{
}

#endif
