/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the programs are attached. PARAMETERS_f lists the parameters of the
 * kernel's f by name, as its BTF gives them, so that this text is the same for
 * every kernel; FENTRY_f tells that f is reached through a BPF trampoline, HOW_f
 * by which probes it is otherwise. Those do not see the arguments where f
 * returns: they are saved at the entry.
 */

struct saved {
	u64 arguments[6];
};

struct call {
	u32 thread;
	u32 function;
};

#if PROBES
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

/* Two programs, for a kprobe and a kretprobe. */
#define KPROBE_PROGRAMS(function)						\
int enter_##function(struct pt_regs *ctx)					\
{										\
	enters_##function(ctx);							\
	return 0;								\
}										\
										\
int leave_##function(struct pt_regs *ctx)					\
{										\
	return leaves_##function(ctx);						\
}

/*
 * One that runs at both ends of a call (kprobe.session: 535a3692ba72, Linux 6.10). Where it
 * returns NO_RETURN at the entry it is not run at the return. What it says there is eight bytes.
 */
#define NO_RETURN	1
#if SESSIONS
static bool (*is_return)(void *ctx) = KERNEL_FUNCTION(ID_bpf_session_is_return);
static u64 *(*cookie_of)(void *ctx) = KERNEL_FUNCTION(ID_bpf_session_cookie);
#endif
#define SESSION_PROGRAMS(function)						\
int session_##function(struct pt_regs *ctx)					\
{										\
	return is_return(ctx) ? leaves_##function(ctx) : enters_##function(ctx);	\
}
#define PROGRAMS_(how, function)	how##_PROGRAMS(function)
#define PROGRAMS(how, function)		PROGRAMS_(how, function)
#endif

#if FENTRY_handle_mm_fault
#if COSTS
KFUNC_PROBE(handle_mm_fault, PARAMETERS_handle_mm_fault)
{
	struct task_struct *current = CURRENT_TASK();
	u64 ids;

	if (!(flags & FAULT_FLAG_WRITE))
		return 0;
	ids = IDS_OF(current);
	if (fault_asked_for(current, ids, flags) && is_timed())
		fault_begins(ids, address & PAGE_MASK, true);
	return 0;
}
#endif

KRETFUNC_PROBE(handle_mm_fault, PARAMETERS_handle_mm_fault, u64 result)
{
	struct task_struct *current = CURRENT_TASK();
	struct fault *slot;
	u64 ids;

	if (!(flags & FAULT_FLAG_WRITE))
		return 0;
	ids = IDS_OF(current);
	slot = slot_of(ids);
	/* What has its slot was asked for. */
	if (slot->thread != (u32)ids && !fault_asked_for(current, ids, flags))
		return 0;
	return fault_done(ctx, current, ids, slot, (struct vm_area_struct *)vma, address & PAGE_MASK,
			  flags, result);
}
#elif SESSION_handle_mm_fault
/* The pages of faults whose threads' slots others have. */
BPF_HASH(pages, u32, u64, MAX_THREADS);

/*
 * A call in eight bytes: all of the VMA's address but the bits that are set in every address of
 * the kernel, and the flags that are asked for.
 */
#define FLAGS_BITS	7
#define PACKED_FLAGS(flags)	((flags) & FAULT_FLAG_USER | ((flags) & FAULT_FLAG_REMOTE) >> 6)
#define UNPACKED_FLAGS(packed)	((packed) & FAULT_FLAG_USER | ((packed) << 6 & FAULT_FLAG_REMOTE))

static int enters_handle_mm_fault(struct pt_regs *ctx)
{
	u64 arguments[] = {ctx->di, ctx->si, ctx->dx, ctx->cx, ctx->r8, ctx->r9};
	u64 flags = arguments[AT_handle_mm_fault_flags];
	u64 page = arguments[AT_handle_mm_fault_address] & PAGE_MASK;
	struct task_struct *current = CURRENT_TASK();
	u64 ids;
	u32 thread;

	if (!(flags & FAULT_FLAG_WRITE))
		return NO_RETURN;
	ids = IDS_OF(current);
	if (!fault_asked_for(current, ids, flags))
		return NO_RETURN;
	*cookie_of(ctx) = arguments[AT_handle_mm_fault_vma] << FLAGS_BITS | PACKED_FLAGS(flags);
	thread = ids;
	if (!fault_begins(thread, page, is_timed()))
		pages.update(&thread, &page);
	return 0;
}

static int leaves_handle_mm_fault(struct pt_regs *ctx)
{
	s64 call = *cookie_of(ctx);
	struct vm_area_struct *vma = AS(vm_area_struct, call >> FLAGS_BITS);
	struct task_struct *current = CURRENT_TASK();
	u64 ids = IDS_OF(current);
	u32 thread = ids;
	struct fault *slot = slot_of(thread);
	u64 page = 0, *elsewhere;

	if (slot->thread == thread) {
		page = slot->page;
	} else {
		elsewhere = pages.lookup(&thread);
		if (elsewhere)
			page = *elsewhere;
		pages.delete(&thread);
	}
	return fault_done(ctx, current, ids, slot, vma, page, UNPACKED_FLAGS(call), ctx->ax);
}

SESSION_PROGRAMS(handle_mm_fault)
#else
static int enters_handle_mm_fault(struct pt_regs *ctx)
{
	u64 arguments[] = {ctx->di, ctx->si, ctx->dx, ctx->cx, ctx->r8, ctx->r9};
	u64 page = arguments[AT_handle_mm_fault_address] & PAGE_MASK;
	struct task_struct *current = CURRENT_TASK();
	u64 ids = IDS_OF(current);

	if (!fault_asked_for(current, ids, arguments[AT_handle_mm_fault_flags]))
		return NO_RETURN;
	save(ctx, HOOK_handle_mm_fault);
	if (is_timed())
		fault_begins(ids, page, true);
	return 0;
}

static int leaves_handle_mm_fault(struct pt_regs *ctx)
{
	struct task_struct *current = CURRENT_TASK();
	u64 ids = IDS_OF(current);
	struct saved call;

	if (!saved_at_entry(HOOK_handle_mm_fault, &call))
		return 0;
	fault_done(ctx, current, ids, slot_of(ids),
		   AS(vm_area_struct, call.arguments[AT_handle_mm_fault_vma]),
		   call.arguments[AT_handle_mm_fault_address] & PAGE_MASK,
		   call.arguments[AT_handle_mm_fault_flags], ctx->ax);
	return forget(HOOK_handle_mm_fault);
}

KPROBE_PROGRAMS(handle_mm_fault)
#endif

#if FENTRY_do_wp_page
/* Detached again once it has learned. */
BPF_PROG(learn__do_wp_page, PARAMETERS_do_wp_page)
{
	learn_memory_map((struct vm_fault *)vmf);
	return 0;
}

KFUNC_PROBE(do_wp_page, PARAMETERS_do_wp_page)
{
	return wp_page_begins(CURRENT_TASK(), (struct vm_fault *)vmf);
}
#else
int enter_do_wp_page(struct pt_regs *ctx)
{
	struct vm_fault *vmf = AS(vm_fault, ctx->di);

	learn_memory_map(vmf);
	return wp_page_begins(CURRENT_TASK(), vmf);
}
#endif

#if !TRACED_do_huge_pmd_wp_page
#elif FENTRY_do_huge_pmd_wp_page
KFUNC_PROBE(do_huge_pmd_wp_page, PARAMETERS_do_huge_pmd_wp_page)
{
	struct vm_fault *fault = (struct vm_fault *)vmf;

	return wp_pmd_begins(CURRENT_TASK(), fault, READ(fault, orig_pte));
}
#else
int enter_do_huge_pmd_wp_page(struct pt_regs *ctx)
{
	struct vm_fault *fault = AS(vm_fault, ctx->di);
	/* Up to Linux 5.13 the function is told what the PMD was, and then the fault is. */
#ifdef AT_do_huge_pmd_wp_page_orig_pmd
	u64 orig_pmd = ctx->si;
#else
	u64 orig_pmd = READ(fault, orig_pte);
#endif

	return wp_pmd_begins(CURRENT_TASK(), fault, orig_pmd);
}
#endif

#if !TRACED_pmdp_set_access_flags
#elif FENTRY_pmdp_set_access_flags
KFUNC_PROBE(pmdp_set_access_flags, PARAMETERS_pmdp_set_access_flags)
{
	return pmd_upgraded(pmdp, entry);
}
#else
int enter_pmdp_set_access_flags(struct pt_regs *ctx)
{
	u64 arguments[] = {ctx->di, ctx->si, ctx->dx, ctx->cx, ctx->r8, ctx->r9};

	return pmd_upgraded(arguments[AT_pmdp_set_access_flags_pmdp],
			    arguments[AT_pmdp_set_access_flags_entry]);
}
#endif

#if !TRACED_hugetlb_fault
#elif FENTRY_hugetlb_fault
KFUNC_PROBE(hugetlb_fault, PARAMETERS_hugetlb_fault)
{
	return hugetlb_begins(CURRENT_TASK(), (struct mm_struct *)mm, address, flags);
}
#else
int enter_hugetlb_fault(struct pt_regs *ctx)
{
	u64 arguments[] = {ctx->di, ctx->si, ctx->dx, ctx->cx, ctx->r8, ctx->r9};

	return hugetlb_begins(CURRENT_TASK(),
			      (struct mm_struct *)arguments[AT_hugetlb_fault_mm],
			      arguments[AT_hugetlb_fault_address],
			      arguments[AT_hugetlb_fault_flags]);
}
#endif

#if !TRACED_handle_userfault
#elif FENTRY_handle_userfault
KFUNC_PROBE(handle_userfault, PARAMETERS_handle_userfault)
{
	return handed_over(CURRENT_TASK(), (struct vm_fault *)vmf, reason);
}
#else
int enter_handle_userfault(struct pt_regs *ctx)
{
	return handed_over(CURRENT_TASK(), AS(vm_fault, ctx->di), ctx->si);
}
#endif

#if !TRACED___split_huge_pmd
#elif FENTRY___split_huge_pmd
KFUNC_PROBE(__split_huge_pmd, PARAMETERS___split_huge_pmd)
{
	return pmd_splits((struct vm_area_struct *)vma, pmd);
}
#else
int enter___split_huge_pmd(struct pt_regs *ctx)
{
	return pmd_splits(AS(vm_area_struct, ctx->di), ctx->si);
}
#endif

#if !TRACED_numa_migrate_check
#elif FENTRY_numa_migrate_check
KRETFUNC_PROBE(numa_migrate_check, PARAMETERS_numa_migrate_check, u64 result)
{
	return numa_hint_ends((struct vm_fault *)vmf, writable, result);
}
#else
static int enters_numa_migrate_check(struct pt_regs *ctx)
{
	return save(ctx, HOOK_numa_migrate_check);
}

static int leaves_numa_migrate_check(struct pt_regs *ctx)
{
	struct saved call;

	if (!saved_at_entry(HOOK_numa_migrate_check, &call))
		return 0;
	numa_hint_ends(AS(vm_fault, call.arguments[AT_numa_migrate_check_vmf]),
		       call.arguments[AT_numa_migrate_check_writable], ctx->ax);
	return forget(HOOK_numa_migrate_check);
}

PROGRAMS(HOW_numa_migrate_check, numa_migrate_check)
#endif

#if !TRACED_migrate_misplaced_folio_prepare
#elif FENTRY_migrate_misplaced_folio_prepare
KRETFUNC_PROBE(migrate_misplaced_folio_prepare, PARAMETERS_migrate_misplaced_folio_prepare, u64 result)
{
	return numa_move_prepared((struct vm_area_struct *)vma, result);
}
#else
static int enters_migrate_misplaced_folio_prepare(struct pt_regs *ctx)
{
	return save(ctx, HOOK_migrate_misplaced_folio_prepare);
}

static int leaves_migrate_misplaced_folio_prepare(struct pt_regs *ctx)
{
	struct saved call;

	if (!saved_at_entry(HOOK_migrate_misplaced_folio_prepare, &call))
		return 0;
	numa_move_prepared(AS(vm_area_struct,
			      call.arguments[AT_migrate_misplaced_folio_prepare_vma]), ctx->ax);
	return forget(HOOK_migrate_misplaced_folio_prepare);
}

PROGRAMS(HOW_migrate_misplaced_folio_prepare, migrate_misplaced_folio_prepare)
#endif

#if FENTRY_change_protection
KRETFUNC_PROBE(change_protection, PARAMETERS_change_protection, u64 result)
{
	return protection_changed(ctx, (struct vm_area_struct *)vma, start, end, cp_flags, result);
}
#else
static int enters_change_protection(struct pt_regs *ctx)
{
	u64 arguments[] = {ctx->di, ctx->si, ctx->dx, ctx->cx, ctx->r8, ctx->r9};
	struct vm_area_struct *vma = AS(vm_area_struct, arguments[AT_change_protection_vma]);

	if (!change_asked_for(vma))
		return NO_RETURN;
	forget_walk();
	return save(ctx, HOOK_change_protection);
}

static int leaves_change_protection(struct pt_regs *ctx)
{
	struct saved call;

	if (!saved_at_entry(HOOK_change_protection, &call))
		return 0;
	protection_changed(ctx, AS(vm_area_struct, call.arguments[AT_change_protection_vma]),
			   call.arguments[AT_change_protection_start],
			   call.arguments[AT_change_protection_end],
			   call.arguments[AT_change_protection_cp_flags], ctx->ax);
	return forget(HOOK_change_protection);
}

PROGRAMS(HOW_change_protection, change_protection)
#endif

/* By a trampoline only: otherwise its caller stands in for it. */
#if TRACED_change_pte_range
KRETFUNC_PROBE(change_pte_range, PARAMETERS_change_pte_range, u64 result)
{
	return pte_range_changed((struct vm_area_struct *)vma, pmd, addr, end, cp_flags, result);
}
#endif

#if !TRACED_copy_page_range
#elif FENTRY_copy_page_range
KFUNC_PROBE(copy_page_range, PARAMETERS_copy_page_range)
{
	return tables_copied((struct vm_area_struct *)src_vma);
}
#else
int enter_copy_page_range(struct pt_regs *ctx)
{
	u64 arguments[] = {ctx->di, ctx->si, ctx->dx, ctx->cx, ctx->r8, ctx->r9};

	return tables_copied(AS(vm_area_struct, arguments[AT_copy_page_range_src_vma]));
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
static int enters_mmap_region(struct pt_regs *ctx)
{
#if FILTERED && !STACKS
	if (!current_asked_for(CURRENT_TASK(), bpf_get_current_pid_tgid() >> 32))
		return NO_RETURN;
#endif
	return save(ctx, HOOK_mmap_region);
}

static int leaves_mmap_region(struct pt_regs *ctx)
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

PROGRAMS(HOW_mmap_region, mmap_region)
#endif

/*
 * In Linux 7 a tracepoint's program may be preempted, and is skipped for others meanwhile. So there
 * are kprobes on what the kernel calls next to the tracepoints.
 */
#ifdef FOLLOW_CHILDREN
#if LIFE_PROBES
int enter_wake_up_new_task(struct pt_regs *ctx)
{
	return task_forked(CURRENT_TASK(), (struct task_struct *)ctx->di);
}

int enter_proc_exec_connector(struct pt_regs *ctx)
{
	return task_executes((struct task_struct *)ctx->di);
}
#else
RAW_TRACEPOINT_PROBE(sched_process_fork)
{
	return task_forked((struct task_struct *)ctx->args[0], (struct task_struct *)ctx->args[1]);
}

RAW_TRACEPOINT_PROBE(sched_process_exec)
{
	return task_executes((struct task_struct *)ctx->args[0]);
}
#endif
#endif

#ifdef FILTER_TGID
#if LIFE_PROBES
int enter_exit_sem(struct pt_regs *ctx)
{
	return task_exits((struct task_struct *)ctx->di);
}
#else
RAW_TRACEPOINT_PROBE(sched_process_exit)
{
	return task_exits((struct task_struct *)ctx->args[0]);
}
#endif
#endif
