/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From where a program changes protection, as addresses: its files are read for
 * symbols in user space, afterwards. The kernel could say a build ID and an offset
 * for each frame, but not here: to look at VMAs it needs the mmap_lock that
 * mprotect() holds. So executable memory is noted as it is mapped.
 */

#if STACKS

#define VM_EXEC		0x00000004ULL
#define THREAD_SIZE	16384
#define FRED_PADDING	16	/* above pt_regs, where the kernel is built with CONFIG_X86_FRED */

BPF_HASH(call_sites, struct call_site, u64, MAX_RECORDS);
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
 * ones hold the instruction pointer that is known.
 */
static u64 stack_top(u64 ip)
{
	u64 end = (u64)PROBE((struct task_struct *)bpf_get_current_task(), stack) + THREAD_SIZE;
	struct pt_regs *regs = (struct pt_regs *)end - 1;
	u64 word = 0;

	if (PROBE(regs, ip) != ip)
		regs = (struct pt_regs *)(end - FRED_PADDING) - 1;
	if (PROBE(regs, ip) == ip)
		bpf_probe_read_user(&word, sizeof(word), (void *)PROBE(regs, sp));
	return word;
}

/* A protection change begins. A NUMA hint is the kernel's own idea: no call is behind it. */
static int change_begins(void *ctx, struct vm_area_struct *vma, u64 cp_flags)
{
	struct task_struct *current = CURRENT_TASK();
	struct subject subject = subject_current(current, bpf_get_current_pid_tgid() >> 32);
	struct call_site site = {.cause = cause_of(cp_flags)};
	u64 *calls, first = 1;
	int zero = 0;

	/* Not its own: execve() prepares the next image, or a monitor acts for another process. */
	if (READ(vma, vm_mm) != TASK_READ(current, mm) || site.cause == CAUSE_NUMA_HINT)
		return 0;
	if (!asked_for(subject.tgid, subject.leader) || !active_records.lookup(&zero))
		return 0;
	site.vma = key_of(vma, &subject, READ(vma, vm_flags));
	bpf_get_stack(ctx, site.frames, sizeof(site.frames), BPF_F_USER_STACK);
	if (site.cause == CAUSE_MPROTECT)
		site.stack_top = stack_top(site.frames[0]);
	calls = call_sites.lookup(&site);
	if (calls)
		COUNT(*calls, 1);
	else if (call_sites.update(&site, &first))
		stack_lost();
	return 0;
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
		record.unlinked = remember_file(address);
	}
	if (code.update(&key, &record))
		stack_lost();
}

#endif
