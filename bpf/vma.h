/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The record of a VMA: found, or made when the VMA is first seen. All that
 * tells what it is is taken then, for the process may be gone a moment later.
 */

#define PAGE_MASK	(~0xfffULL)
#define VM_SHARED	0x00000008ULL
#define VM_HUGETLB	0x00400000ULL
#define TMPFS_MAGIC	0x01021994
#define PATH_DEPTH	24
#define COMPONENT_SIZE	256	/* NAME_MAX and its NUL */
#define CLAIMS		16

/*
 * Records are counted into one of two tables. User space swaps them, reads the idle
 * one and clears it; updating an array of maps waits for all running programs
 * (maybe_wait_bpf_programs()), so an idle table is never written by one again.
 *
 * A table is an array: where its index is known, a record is had at next to no cost.
 * First come two that are of no VMA: their claims count how many of those behind were
 * given away, which are records of VMAs, then of processes whose VMAs found no room
 * ("remainders"). What finds no room there either is counted in the second one.
 */
#define RECORDS		0
#define REMAINDERS	1
#define FIRST_RECORD	2
#define FIRST_REMAINDER	(FIRST_RECORD + MAX_RECORDS)
#define TABLE_SIZE	(FIRST_REMAINDER + MAX_REMAINDERS)
BPF_F_TABLE("array", u32, struct vma_record, records_a, TABLE_SIZE, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct vma_record, records_b, TABLE_SIZE, BPF_F_MMAPABLE);
BPF_ARRAY_OF_MAPS(active_records, "records_a", 1);

/*
 * Where the record of a VMA was last. Nothing is lost where this is wrong or gone: a
 * record tells whose it is, and user space adds up those of one VMA.
 */
BPF_TABLE("lru_hash", struct vma_key, u32, places, 2 * TABLE_SIZE);

/*
 * When mmap() made a mapping: tells a mapping put where another one was from a
 * part that mprotect() split off. Losing old ones costs two rows for one. The
 * key is what a struct vma_key begins with.
 */
struct birth {
	u64 image;
	u64 start;
	u64 end;
	u32 tgid;
	u32 reserved;
};

BPF_TABLE("lru_hash", struct birth, u64, births, MAX_BIRTHS);

/*
 * The files of the records, in two tables as well: a name is taken anew for each
 * interval, so that none is kept for a file long gone. User space swaps these
 * first and waits, so a record of the new table has its file in the new one; of
 * the old table, in either.
 */
BPF_TABLE("hash", struct file_key, struct file_record, files_a, MAX_FILES);
BPF_TABLE("hash", struct file_key, struct file_record, files_b, MAX_FILES);
BPF_ARRAY_OF_MAPS(active_files, "files_a", 1);

BPF_ARRAY(health, struct health_record, 1);

/* Never written: what a new entry is made from, too large for the stack. */
BPF_ARRAY(blank_file, struct file_record, 1);

#define COUNT(counter, by) __sync_fetch_and_add(&(counter), by)

/*
 * Where a file is, as the process that mapped it opened it: the file of an
 * overlay keeps that beside it (def3ae83da02, Linux 6.7). FMODE_BACKING tells
 * such a file, but is bit 25 up to Linux 6.13 and bit 24 since, so a path is
 * believed only where its mount and its dentry are of one file system.
 */
static struct path path_of(struct file *file)
{
#ifdef HAVE_USER_PATH
	if (PROBE(file, f_mode) & (1U << 24 | 1U << 25)) {
		struct path path = PROBE((struct backing_file *)file, user_path);
		struct super_block *sb = PROBE(path.dentry, d_sb);

		if (sb && PROBE(path.mnt, mnt_sb) == sb)
			return path;
	}
#endif
	return PROBE(file, f_path);
}

/*
 * Walk from the file upwards over mount points, as d_path() does. The length
 * is read back from the record on each turn: what comes from a map is just an
 * unknown number to the verifier, so all turns look alike to it. Kept in a
 * register, its range would differ on every path through the loop.
 */
static void capture_components(struct path path, struct file_record *record)
{
	struct dentry *dentry = path.dentry, *root = PROBE(path.mnt, mnt_root);
	struct mount *mount = (void *)path.mnt - MOUNT_MNT_OFFSET;
	volatile u32 *filled = &record->length;

	for (int depth = 0; depth < PATH_DEPTH; depth++) {
		struct dentry *parent = PROBE(dentry, d_parent);
		u32 length = *filled;
		long copied;

		if (dentry == root) {
			struct mount *above = PROBE(mount, mnt_parent);
			struct vfsmount *vfsmount = (void *)above + MOUNT_MNT_OFFSET;

			if (above == mount)
				break;
			dentry = PROBE(mount, mnt_mountpoint);
			root = PROBE(vfsmount, mnt_root);
			mount = above;
			continue;
		}
		if (length > sizeof(record->components) - COMPONENT_SIZE)
			break;
		copied = bpf_probe_read_kernel_str(&record->components[length], COMPONENT_SIZE,
						   PROBE(dentry, d_name.name));
		if (copied <= 0)
			break;
		*filled = length + copied;
		if (dentry == parent)
			break;
		dentry = parent;
	}
}

/* Takes the address of a struct file. Returns whether it was deleted. */
static int (*remember_file)(u64) = LINKED_FUNCTION(0);

int function_0__remember_file(u64 address)
{
	struct file *file = (struct file *)address;
	struct path path = path_of(file);
	struct inode *node = PROBE(file, f_inode);
	struct super_block *sb = PROBE(node, i_sb);
	struct file_key file_key = {
		.inode = PROBE(node, i_ino), .dev = PROBE(sb, s_dev),
		.unlinked = !PROBE(path.dentry, d_hash.pprev),
	};
	struct file_record *record;
	int zero = 0;
	void *files = active_files.lookup(&zero);

	if (!files || bpf_map_lookup_elem(files, &file_key))
		return file_key.unlinked;
	record = blank_file.lookup(&zero);
	if (!record)
		return file_key.unlinked;
	bpf_map_update_elem(files, &file_key, record, BPF_ANY);
	record = bpf_map_lookup_elem(files, &file_key);
	if (record) {
		capture_components(path, record);
	} else {
		struct health_record *lost = health.lookup(&zero);

		if (lost)
			COUNT(lost->paths_full, 1);
	}
	return file_key.unlinked;
}

static u32 kind_of(struct vm_area_struct *vma, struct file *file, u64 vm_flags)
{
	struct mm_struct *mm = PROBE(vma, vm_mm);
	u64 start = PROBE(vma, vm_start), end = PROBE(vma, vm_end);
	u64 stack = PROBE(mm, start_stack);

	if (vm_flags & VM_HUGETLB)
		return KIND_HUGETLB;
	if (PROBE(vma, vm_ops)) {
		struct inode *inode;
		struct super_block *sb;

		if (!file)
			return KIND_OTHER;
		inode = PROBE(file, f_inode);
		sb = PROBE(inode, i_sb);
		return PROBE(sb, s_magic) == TMPFS_MAGIC ? KIND_SHMEM : KIND_FILE;
	}
	if (start <= PROBE(mm, brk) && end >= PROBE(mm, start_brk))
		return KIND_HEAP;
	if (start <= stack && end >= stack)
		return KIND_STACK;
	return KIND_ANON;
}

/*
 * The index of a record that was nobody's so far, 0 where there is no room. No atomic
 * operation of Linux 5.10 tells what was before; but of those who add to a record's claims
 * at most one finds 1 there. Where none does the record stays empty.
 */
static u32 claim(void *table, u32 kind, u32 first, u32 room)
{
	struct vma_record *head = bpf_map_lookup_elem(table, &kind), *record;

	if (!head)
		return 0;
	for (u32 turn = 0; turn < CLAIMS; turn++) {
		u64 claimed;
		u32 index;

		COUNT(head->claims, 1);
		claimed = *(volatile u64 *)&head->claims;
		if (claimed > room)
			return 0;
		index = first + claimed - 1;
		record = bpf_map_lookup_elem(table, &index);
		if (!record)
			return 0;
		COUNT(record->claims, 1);
		if (*(volatile u64 *)&record->claims == 1)
			return index;
	}
	return 0;
}

static struct vma_record *begun(void *table, u32 index, struct vma_key *key,
				struct task_struct *leader)
{
	struct vma_record *record = bpf_map_lookup_elem(table, &index);
	struct task_struct *parent;

	if (!record || !index)
		return NULL;
	record->vma = *key;
	record->first_seen_ns = bpf_ktime_get_ns();
	parent = PROBE(leader, real_parent);
	record->ppid = PROBE(parent, tgid);
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), &leader->comm);
	places.update(key, &index);
	return record;
}

static bool is_of(struct vma_record *record, struct vma_key *key)
{
	u64 *one = (u64 *)&record->vma, *other = (u64 *)key, differing = 0;

#pragma unroll
	for (u32 word = 0; word < sizeof(*key) / sizeof(u64); word++)
		differing |= one[word] ^ other[word];
	return !differing;
}

/* NULL where there is none, or it is not known where. */
static struct vma_record *found(void *table, struct vma_key *key, u32 *place)
{
	u32 *known = places.lookup(key);
	struct vma_record *record;

	if (!known)
		return NULL;
	*place = *known;
	record = bpf_map_lookup_elem(table, known);
	return record && is_of(record, key) ? record : NULL;
}

static struct vma_record *unattributed(void *table, struct vma_key *key,
				       struct task_struct *leader)
{
	struct vma_key process = {.image = key->image, .tgid = key->tgid};
	u32 index;
	struct vma_record *record = found(table, &process, &index);

	if (record)
		return record;
	index = claim(table, REMAINDERS, FIRST_REMAINDER, MAX_REMAINDERS);
	record = begun(table, index, &process, leader);
	index = REMAINDERS;
	return record ? record : bpf_map_lookup_elem(table, &index);
}

static struct vma_record *first_seen(void *table, struct vma_key *key,
				     struct vm_area_struct *vma, struct task_struct *leader)
{
	struct file *file = PROBE(vma, vm_file);
	struct vma_record *record;
	u64 *born_ns;

	record = begun(table, claim(table, RECORDS, FIRST_RECORD, MAX_RECORDS), key, leader);
	if (!record)
		return unattributed(table, key, leader);
	born_ns = births.lookup((struct birth *)key);
	if (born_ns)
		record->born_ns = *born_ns;
	record->kind = kind_of(vma, file, PROBE(vma, vm_flags));
#ifdef HAVE_ANON_NAME
	if (!file) {
		struct anon_vma_name *anon_name = PROBE(vma, anon_name);

		if (anon_name)
			bpf_probe_read_kernel_str(record->anon_name, sizeof(record->anon_name),
						  (void *)anon_name + ANON_NAME_OFFSET);
	}
#endif
	if (file)
		record->unlinked = remember_file((u64)file);
	return record;
}

static struct vma_key key_of(struct vm_area_struct *vma, struct subject *subject, u64 vm_flags)
{
	struct file *file = READ(vma, vm_file);
	struct vma_key key = {
		.image = subject->image,
		.tgid = subject->tgid,
		.start = READ(vma, vm_start),
		.end = READ(vma, vm_end),
		.shared = !!(vm_flags & VM_SHARED),
	};

	if (file) {
		struct inode *inode = READ(file, f_inode);
		struct super_block *sb = READ(inode, i_sb);

		key.inode = READ(inode, i_ino);
		key.dev = READ(sb, s_dev);
	}
	return key;
}

/* Like is_of() with the key that key_of() makes, which is not made for it. */
static bool is_of_vma(struct vma_record *record, struct vm_area_struct *vma,
		      struct subject *subject, u64 vm_flags)
{
	struct file *file = READ(vma, vm_file);
	struct super_block *sb;
	struct inode *inode;

	if (record->vma.start != READ(vma, vm_start) || record->vma.end != READ(vma, vm_end) ||
	    record->vma.image != subject->image || record->vma.tgid != subject->tgid ||
	    record->vma.shared != !!(vm_flags & VM_SHARED))
		return false;
	if (!file)
		return !record->vma.inode && !record->vma.dev;
	inode = READ(file, f_inode);
	sb = READ(inode, i_sb);
	return record->vma.inode == READ(inode, i_ino) && record->vma.dev == READ(sb, s_dev);
}

/* The record of a VMA of @subject. @place: where it may be, and then where it is. */
static struct vma_record *record_at(struct vm_area_struct *vma, u64 vm_flags,
				    struct subject *subject, u32 *place)
{
	struct vma_record *record;
	struct vma_key key;
	void *table;
	int zero = 0;

	table = active_records.lookup(&zero);
	if (!table)
		return NULL;
	record = bpf_map_lookup_elem(table, place);
	if (!record || !is_of_vma(record, vma, subject, vm_flags)) {
		key = key_of(vma, subject, vm_flags);
		record = found(table, &key, place);
		if (!record)
			record = first_seen(table, &key, vma, subject->leader);
	}
	if (record)
		record->vm_flags = vm_flags;
	return record;
}

/* An error is a small negative number; no address in user space is. */
static bool is_error(u64 result)
{
	return (s64)result < 0;
}

static int mapping_born(u64 length, u64 result)
{
	struct subject subject = subject_current(CURRENT_TASK(), bpf_get_current_pid_tgid() >> 32);
	struct birth birth = {
		.image = subject.image,
		.start = result,
		.end = result + ((length + ~PAGE_MASK) & PAGE_MASK),
		.tgid = subject.tgid,
	};
	u64 now = bpf_ktime_get_ns();

	if (is_error(result) || !asked_for(subject.tgid, subject.leader))
		return 0;
	births.update(&birth, &now);
	return 0;
}
