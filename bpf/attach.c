/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the programs are attached. PARAMETERS_f lists the parameters of the
 * kernel's f by name, as its BTF gives them, so that this text is the same for
 * every kernel; FENTRY_f tells that f is reached through a BPF trampoline.
 * A kretprobe does not see the arguments: a kprobe saves them at the entry.
 */

struct saved {
	u64 arguments[7];
};

struct call {
	u32 thread;
	u32 function;
};

#if KPROBES
BPF_HASH(calls, struct call, struct saved, MAX_THREADS);

static void count_missed_return(void)
{
	int zero = 0;
	struct health_record *lost = health.lookup(&zero);

	if (lost)
		COUNT(lost->returns_missed, 1);
}

static int save(struct pt_regs *ctx, u32 function)
{
	struct call call = {.thread = bpf_get_current_pid_tgid(), .function = function};
	struct saved saved = {.arguments = {ctx->di, ctx->si, ctx->dx, ctx->cx, ctx->r8, ctx->r9}};

	/* At a function's entry the seventh argument is above the return address. */
	bpf_probe_read_kernel(&saved.arguments[6], sizeof(u64), (void *)ctx->sp + 8);
	if (calls.insert(&call, &saved)) {
		/* Another call of this thread is there still: its return was never told. */
		count_missed_return();
		calls.update(&call, &saved);
	}
	return 0;
}

static bool saved_at_entry(u32 function, struct saved *saved)
{
	struct call call = {.thread = bpf_get_current_pid_tgid(), .function = function};
	struct saved *found = calls.lookup(&call);

	if (!found)
		return false;
	*saved = *found;
	return true;
}

static int forget(u32 function)
{
	struct call call = {.thread = bpf_get_current_pid_tgid(), .function = function};

	calls.delete(&call);
	return 0;
}
#endif

#if FENTRY_handle_mm_fault
#if COSTS
KFUNC_PROBE(handle_mm_fault, PARAMETERS_handle_mm_fault)
{
	return fault_asked_for(flags) ? fault_begins(address) : 0;
}
#endif

KRETFUNC_PROBE(handle_mm_fault, PARAMETERS_handle_mm_fault, u64 result)
{
	if (!fault_asked_for(flags))
		return 0;
	return fault_done((struct vm_area_struct *)vma, address, flags, result);
}
#else
int enter_handle_mm_fault(struct pt_regs *ctx)
{
	u64 arguments[] = {ctx->di, ctx->si, ctx->dx, ctx->cx, ctx->r8, ctx->r9};

	if (!fault_asked_for(arguments[AT_handle_mm_fault_flags]))
		return 0;
	save(ctx, HOOK_handle_mm_fault);
#if COSTS
	fault_begins(arguments[AT_handle_mm_fault_address]);
#endif
	return 0;
}

int leave_handle_mm_fault(struct pt_regs *ctx)
{
	struct saved call;

	if (!saved_at_entry(HOOK_handle_mm_fault, &call))
		return 0;
	fault_done((struct vm_area_struct *)call.arguments[AT_handle_mm_fault_vma],
		   call.arguments[AT_handle_mm_fault_address],
		   call.arguments[AT_handle_mm_fault_flags], ctx->ax);
	return forget(HOOK_handle_mm_fault);
}
#endif

#if FENTRY_do_wp_page
#if INSPECT
/* Detached again once it has learned. */
KFUNC_PROBE(do_wp_page, PARAMETERS_do_wp_page)
{
	learn_direct_map((struct vm_fault *)vmf);
	return 0;
}
#endif

KRETFUNC_PROBE(do_wp_page, PARAMETERS_do_wp_page, u64 result)
{
	if (!fault_asked_for(READ((struct vm_fault *)vmf, flags)))
		return 0;
	return wp_page_done((struct vm_fault *)vmf, result);
}
#else
int enter_do_wp_page(struct pt_regs *ctx)
{
	struct vm_fault *vmf = (struct vm_fault *)ctx->di;

#if INSPECT
	learn_direct_map(vmf);
#endif
	return fault_asked_for(READ(vmf, flags)) ? save(ctx, HOOK_do_wp_page) : 0;
}

int leave_do_wp_page(struct pt_regs *ctx)
{
	struct saved call;

	if (!saved_at_entry(HOOK_do_wp_page, &call))
		return 0;
	wp_page_done((struct vm_fault *)call.arguments[AT_do_wp_page_vmf], ctx->ax);
	return forget(HOOK_do_wp_page);
}
#endif

#if FENTRY_change_protection
#if STACKS
KFUNC_PROBE(change_protection, PARAMETERS_change_protection)
{
	return change_begins(ctx, (struct vm_area_struct *)vma, cp_flags);
}
#endif

KRETFUNC_PROBE(change_protection, PARAMETERS_change_protection, u64 result)
{
	return protection_changed((struct vm_area_struct *)vma, start, end, cp_flags, result);
}
#else
int enter_change_protection(struct pt_regs *ctx)
{
	save(ctx, HOOK_change_protection);
	forget_walk();
#if STACKS
	struct saved call;

	if (saved_at_entry(HOOK_change_protection, &call))
		change_begins(ctx,
			      (struct vm_area_struct *)call.arguments[AT_change_protection_vma],
			      call.arguments[AT_change_protection_cp_flags]);
#endif
	return 0;
}

int leave_change_protection(struct pt_regs *ctx)
{
	struct saved call;

	if (!saved_at_entry(HOOK_change_protection, &call))
		return 0;
	protection_changed((struct vm_area_struct *)call.arguments[AT_change_protection_vma],
			   call.arguments[AT_change_protection_start],
			   call.arguments[AT_change_protection_end],
			   call.arguments[AT_change_protection_cp_flags], ctx->ax);
	return forget(HOOK_change_protection);
}
#endif

#if !TRACED_change_pte_range
#elif FENTRY_change_pte_range
KRETFUNC_PROBE(change_pte_range, PARAMETERS_change_pte_range, u64 result)
{
	return pte_range_changed((struct vm_area_struct *)vma, pmd, addr, end, cp_flags, result);
}
#else
int enter_change_pte_range(struct pt_regs *ctx)
{
	return save(ctx, HOOK_change_pte_range);
}

int leave_change_pte_range(struct pt_regs *ctx)
{
	struct saved call;

	if (!saved_at_entry(HOOK_change_pte_range, &call))
		return 0;
	pte_range_changed((struct vm_area_struct *)call.arguments[AT_change_pte_range_vma],
			  call.arguments[AT_change_pte_range_pmd],
			  call.arguments[AT_change_pte_range_addr],
			  call.arguments[AT_change_pte_range_end],
			  call.arguments[AT_change_pte_range_cp_flags], ctx->ax);
	return forget(HOOK_change_pte_range);
}
#endif

#if !TRACED_mmap_region
#elif FENTRY_mmap_region
KRETFUNC_PROBE(mmap_region, PARAMETERS_mmap_region, u64 result)
{
#if STACKS
	code_mapped((struct file *)file, result, len, vm_flags, pgoff);
#endif
	return mapping_born(len, result);
}
#else
int enter_mmap_region(struct pt_regs *ctx)
{
	return save(ctx, HOOK_mmap_region);
}

int leave_mmap_region(struct pt_regs *ctx)
{
	struct saved call;

	if (!saved_at_entry(HOOK_mmap_region, &call))
		return 0;
#if STACKS
	code_mapped((struct file *)call.arguments[AT_mmap_region_file], ctx->ax,
		    call.arguments[AT_mmap_region_len],
		    call.arguments[AT_mmap_region_vm_flags],
		    call.arguments[AT_mmap_region_pgoff]);
#endif
	mapping_born(call.arguments[AT_mmap_region_len], ctx->ax);
	return forget(HOOK_mmap_region);
}
#endif

#ifdef FOLLOW_CHILDREN
RAW_TRACEPOINT_PROBE(sched_process_fork)
{
	return task_forked((struct task_struct *)ctx->args[0], (struct task_struct *)ctx->args[1]);
}

RAW_TRACEPOINT_PROBE(sched_process_exec)
{
	return task_executes((struct task_struct *)ctx->args[0]);
}
#endif

#ifdef FILTER_TGID
RAW_TRACEPOINT_PROBE(sched_process_exit)
{
	return task_exits((struct task_struct *)ctx->args[0]);
}
#endif
