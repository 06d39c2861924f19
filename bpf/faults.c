/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Write faults: all of them where handle_mm_fault() returns, and how they
 * were decided where do_wp_page() returns.
 */

#define FAULT_FLAG_WRITE	0x01
#define VM_FAULT_ERROR		0x873	/* OOM, SIGBUS, SIGSEGV, HWPOISON, FALLBACK */
#define VM_FAULT_RETRY		0x400
#define PTE_FRAME		0x000ffffffffff000ULL
#define PTE_PRESENT		0x001ULL
#define PTE_UFFD_WP		0x400ULL

/*
 * Faults that were handed to a userfaultfd monitor, by thread id: the page's
 * address. Their first attempt ends with VM_FAULT_RETRY; which fault it was is
 * needed when the repeated attempt completes.
 */
BPF_TABLE("lru_hash", u32, u64, monitored, 4096);

static bool was_monitored(struct vm_area_struct *vma, u64 address)
{
	u32 thread = bpf_get_current_pid_tgid();
	u64 *page;

	if (!(READ(vma, vm_flags) & VM_UFFD_WP))
		return false;
	page = monitored.lookup(&thread);
	if (!page || *page != (address & PAGE_MASK))
		return false;
	monitored.delete(&thread);
	return true;
}

static int wp_page_done(struct vm_fault *vmf, u32 result)
{
	struct vm_area_struct *vma = READ(vmf, vma);
	u64 before = READ(vmf, orig_pte), address = READ(vmf, address), after = 0;
	struct vma_record *record;

	/* FAULT_FLAG_UNSHARE comes here too (commit c89357e27f20). */
	if (!(READ(vmf, flags) & FAULT_FLAG_WRITE) || result & VM_FAULT_ERROR)
		return 0;
	if (result & VM_FAULT_RETRY) {
		if (before & PTE_UFFD_WP) {
			u32 thread = bpf_get_current_pid_tgid();
			u64 page = address & PAGE_MASK;

			monitored.update(&thread, &page);
		}
		return 0;
	}
	record = record_of(vma);
	if (!record)
		return 0;
	if (was_monitored(vma, address)) {
		COUNT(record->decided[OUTCOME_WP_UFFD], 1);
	} else if (READ(vma, vm_flags) & VM_SHARED) {
		COUNT(record->decided[OUTCOME_WP_SHARED], 1);
	} else {
		bpf_probe_read_kernel(&after, sizeof(after), (void *)READ(vmf, pte));
		if (!(after & PTE_PRESENT))
			return 0;	/* reclaimed already: cannot be told, so it stays "other" */
		if ((before ^ after) & PTE_FRAME)
			COUNT(record->decided[OUTCOME_WP_COPY], 1);
		else
			COUNT(record->decided[OUTCOME_WP_REUSE], 1);
	}
	return 0;
}

static int fault_done(struct vm_area_struct *vma, u64 address, u32 flags, u32 result)
{
	struct vma_record *record;

	/* An attempt that is to be repeated is no fault yet. */
	if (!(flags & FAULT_FLAG_WRITE) || result & VM_FAULT_RETRY)
		return 0;
	record = record_of(vma);
	if (!record)
		return 0;
	COUNT(record->write_faults, 1);
	if (result & VM_FAULT_ERROR)
		COUNT(record->decided[OUTCOME_ERROR], 1);
	else if (was_monitored(vma, address))
		COUNT(record->decided[OUTCOME_WP_UFFD], 1);
	return 0;
}
