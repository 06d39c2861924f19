/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The record of a VMA: found, or made when the VMA is first seen. All that
 * tells what it is is taken then, for the process may be gone a moment later.
 */

#define PAGE_MASK	(~0xfffULL)
#define VM_SHARED	0x00000008ULL
#define VM_UFFD_WP	0x00001000ULL
#define VM_HUGETLB	0x00400000ULL
#define TMPFS_MAGIC	0x01021994
#define PATH_DEPTH	24
#define COMPONENT_SIZE	256	/* NAME_MAX and its NUL */

/*
 * Records are counted into one of two tables. User space swaps them and reads
 * the idle one; updating an array of maps waits for all running programs
 * (maybe_wait_bpf_programs()), so an idle table is never written again.
 */
BPF_TABLE("hash", struct vma_key, struct vma_record, records_a, MAX_RECORDS);
BPF_TABLE("hash", struct vma_key, struct vma_record, records_b, MAX_RECORDS);

/*
 * What finds no room there, by process. One entry is nobody's, all zero and made by
 * user space: there is counted what finds no room here either.
 */
BPF_TABLE("hash", struct vma_key, struct vma_record, remainders_a, MAX_REMAINDERS);
BPF_TABLE("hash", struct vma_key, struct vma_record, remainders_b, MAX_REMAINDERS);

/*
 * One array for both: to the verifier a record of either is then the same, so it
 * follows only once what is done with it.
 */
#define RECORDS		0
#define REMAINDERS	1
BPF_ARRAY_OF_MAPS(active_records, "records_a", 2);

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
BPF_ARRAY(blank_record, struct vma_record, 1);
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

/* Returns whether the file was deleted. */
static bool remember_file(u64 inode, u32 dev, struct file *file)
{
	struct path path = path_of(file);
	struct file_key file_key = {
		.inode = inode, .dev = dev, .unlinked = !PROBE(path.dentry, d_hash.pprev),
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

/* NULL where there is no room. */
static struct vma_record *new_record(void *table, struct vma_key *key,
				     struct task_struct *leader)
{
	struct task_struct *parent;
	struct vma_record *record;
	int zero = 0;

	record = blank_record.lookup(&zero);
	if (!record)
		return NULL;
	bpf_map_update_elem(table, key, record, BPF_NOEXIST);
	record = bpf_map_lookup_elem(table, key);
	if (!record)
		return NULL;
	record->first_seen_ns = bpf_ktime_get_ns();
	parent = PROBE(leader, real_parent);
	record->ppid = PROBE(parent, tgid);
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), &leader->comm);
	return record;
}

static struct vma_record *unattributed(struct vma_key *key, struct task_struct *leader)
{
	struct vma_key process = {.image = key->image, .tgid = key->tgid};
	struct vma_record *record;
	int index = REMAINDERS;
	void *table = active_records.lookup(&index);

	if (!table)
		return NULL;
	record = bpf_map_lookup_elem(table, &process);
	if (!record)
		record = new_record(table, &process, leader);
	if (record)
		return record;
	process = (struct vma_key){};
	return bpf_map_lookup_elem(table, &process);
}

static struct vma_record *first_seen(void *table, struct vma_key *key,
				     struct vm_area_struct *vma, struct task_struct *leader)
{
	struct file *file = PROBE(vma, vm_file);
	struct vma_record *record;
	u64 *born_ns;

	record = new_record(table, key, leader);
	if (!record)
		return unattributed(key, leader);
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
		record->unlinked = remember_file(key->inode, key->dev, file);
	return record;
}

static struct vma_key key_of(struct vm_area_struct *vma, struct subject *subject)
{
	struct file *file = READ(vma, vm_file);
	struct vma_key key = {
		.image = subject->image,
		.tgid = subject->tgid,
		.start = READ(vma, vm_start),
		.end = READ(vma, vm_end),
		.shared = !!(READ(vma, vm_flags) & VM_SHARED),
	};

	if (file) {
		struct inode *inode = READ(file, f_inode);
		struct super_block *sb = READ(inode, i_sb);

		key.inode = READ(inode, i_ino);
		key.dev = READ(sb, s_dev);
	}
	return key;
}

/* NULL where the event is not asked for. */
static struct vma_record *record_of(struct vm_area_struct *vma)
{
	struct subject subject = subject_of(vma);
	struct vma_record *record;
	struct vma_key key;
	void *table;
	int index = RECORDS;

	if (!subject.leader || !asked_for(&subject))
		return NULL;
	table = active_records.lookup(&index);
	if (!table)
		return NULL;
	key = key_of(vma, &subject);
	record = bpf_map_lookup_elem(table, &key);
	if (!record)
		record = first_seen(table, &key, vma, subject.leader);
	if (record)
		record->vm_flags = READ(vma, vm_flags);
	return record;
}

/* An error is a small negative number; no address in user space is. */
static bool is_error(u64 result)
{
	return (s64)result < 0;
}

static int mapping_born(u64 length, u64 result)
{
	struct subject subject = subject_current(CURRENT_TASK());
	struct birth birth = {
		.image = subject.image,
		.start = result,
		.end = result + ((length + ~PAGE_MASK) & PAGE_MASK),
		.tgid = subject.tgid,
	};
	u64 now = bpf_ktime_get_ns();

	if (is_error(result) || !asked_for(&subject))
		return 0;
	births.update(&birth, &now);
	return 0;
}
