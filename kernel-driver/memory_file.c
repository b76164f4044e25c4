// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory file, by which a process reaches the address space of a device:
 * mmap(MAP_SHARED) and lseek(), nothing else.
 *
 * It has an inode of its own, not the one that all anonymous files share: its
 * size is the size of the address space (libraries for guest memory check it
 * with lseek() or fstat()), and unmapping a range by way of a shared inode
 * would hit the mappings of every other anonymous file of the machine.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>

#include "compat.h"
#include "loopback.h"

#define VL_FS_MAGIC	0x766c6f6f	/* "vloo" */

/*
 * Pinned by each device, not for good: a mount that the module made when it
 * was loaded would keep it from ever being removed.
 */
static struct vfsmount *vl_mount;
static int vl_mount_count;

static int vl_fs_init_context(struct fs_context *context)
{
	if (!init_pseudo(context, VL_FS_MAGIC))
		return -ENOMEM;
	context->s_iflags |= SB_I_NODEV | SB_I_NOEXEC;
	return 0;
}

static struct file_system_type vl_fs_type = {
	.name			= "virtio-loopback",
	.owner			= THIS_MODULE,
	.init_fs_context	= vl_fs_init_context,
	.kill_sb		= kill_anon_super,
};

/* The size is the device's: ftruncate(), like chmod(), is refused. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
static int vl_memory_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
			     struct iattr *attr)
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(5, 12, 0)
static int vl_memory_setattr(struct user_namespace *ns, struct dentry *dentry,
			     struct iattr *attr)
#else
static int vl_memory_setattr(struct dentry *dentry, struct iattr *attr)
#endif
{
	return -EPERM;
}

static const struct inode_operations vl_memory_inode_ops = {
	.setattr	= vl_memory_setattr,
};

/*
 * To be faulted again. In the kernel, which copies to or from the mapping, it
 * would be faulted for ever where the reason does not go away: nobody asks for
 * signals then, and without preemption nobody else runs.
 */
static vm_fault_t vl_memory_again(void)
{
	cond_resched();
	return fatal_signal_pending(current) ? VM_FAULT_SIGBUS :
					       VM_FAULT_NOPAGE;
}

static vm_fault_t vl_memory_vm_fault(struct vm_fault *vmf)
{
	struct vl_device *vl = vmf->vma->vm_private_data;
	struct page *page;
	int err;

	/* userfaultfd(2) has marked a place where no page is. */
	if (vl_fault_is_marked(vmf))
		return VM_FAULT_SIGBUS;
	/* vl_memory_mmap() has checked that the offset is in the file. */
	down_read(&vl->memory.sem);
	page = vl_memory_fault(vl, vmf->pgoff);
	/*
	 * Not by vmf->page: that page would enter the page table after this
	 * has returned, and the one who takes it away could be faster.
	 */
	err = vm_insert_page(vmf->vma, vmf->address & PAGE_MASK, page);
	up_read(&vl->memory.sem);

	if (!err)
		return VM_FAULT_NOPAGE;
	if (err == -EBUSY)	/* another thread was first */
		return vl_memory_again();
	return err == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}

/*
 * A page is mapped for reading first; before it is for writing, this is asked.
 * Context: the caller holds a reference to the page, so that no other page of
 * the same place can be mistaken for it, and expects it to be locked.
 */
static vm_fault_t vl_memory_vm_page_mkwrite(struct vm_fault *vmf)
{
	struct vl_device *vl = vmf->vma->vm_private_data;

	switch (vl_memory_write(vl, vmf->page, vmf->pgoff)) {
	case VL_WRITE_REFUSED:
		return VM_FAULT_SIGBUS;
	case VL_WRITE_LATER:
		return vl_memory_again();
	default:
		lock_page(vmf->page);
		return VM_FAULT_LOCKED;
	}
}

static const struct vm_operations_struct vl_memory_vm_ops = {
	.fault		= vl_memory_vm_fault,
	.page_mkwrite	= vl_memory_vm_page_mkwrite,
};

static int vl_memory_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vl_device *vl = file->private_data;

	/* A private mapping would be a copy. There is no code to execute. */
	if (!(vma->vm_flags & VM_SHARED) || vma->vm_flags & VM_EXEC)
		return -EINVAL;
	if (vma->vm_pgoff + vma_pages(vma) < vma->vm_pgoff ||
	    vma->vm_pgoff + vma_pages(vma) > vl->memory.pages)
		return -ENXIO;

	vl_vm_flags_clear(vma, VM_MAYEXEC);
	/* VM_MIXEDMAP now: vm_insert_page() may not set it in a fault. */
	vl_vm_flags_set(vma, VM_DONTEXPAND | VM_DONTCOPY | VM_DONTDUMP |
			     VM_MIXEDMAP);
	vma->vm_private_data = vl;
	vma->vm_ops = &vl_memory_vm_ops;
	return 0;
}

static loff_t vl_memory_llseek(struct file *file, loff_t offset, int whence)
{
	struct vl_device *vl = file->private_data;

	return fixed_size_llseek(file, offset, whence,
				 (loff_t)vl->memory.pages << PAGE_SHIFT);
}

static int vl_memory_release(struct inode *inode, struct file *file)
{
	struct vl_device *vl = file->private_data;

	put_device(&vl->dev);
	return 0;
}

static const struct file_operations vl_memory_fops = {
	.owner		= THIS_MODULE,
	.mmap		= vl_memory_mmap,
	.llseek		= vl_memory_llseek,
	.release	= vl_memory_release,
};

int vl_memory_file_init(struct vl_device *vl)
{
	struct inode *inode;
	int err;

	err = simple_pin_fs(&vl_fs_type, &vl_mount, &vl_mount_count);
	if (err)
		return err;
	inode = alloc_anon_inode(vl_mount->mnt_sb);
	if (IS_ERR(inode)) {
		simple_release_fs(&vl_mount, &vl_mount_count);
		return PTR_ERR(inode);
	}
	inode->i_mode = S_IFREG | 0600;
	inode->i_op = &vl_memory_inode_ops;
	i_size_write(inode, (loff_t)vl->memory.pages << PAGE_SHIFT);
	vl->memory.inode = inode;
	return 0;
}

void vl_memory_file_destroy(struct vl_device *vl)
{
	if (!vl->memory.inode)
		return;
	iput(vl->memory.inode);
	simple_release_fs(&vl_mount, &vl_mount_count);
}

/* Returns a new file descriptor. */
int vl_memory_file_open(struct vl_device *vl)
{
	struct inode *inode = vl->memory.inode;
	struct file *file;
	int fd;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;

	/* alloc_file_pseudo() takes neither of these, but fput() drops them. */
	ihold(inode);
	__module_get(THIS_MODULE);
	file = alloc_file_pseudo(inode, vl_mount, "virtio-loopback", O_RDWR,
				 &vl_memory_fops);
	if (IS_ERR(file)) {
		module_put(THIS_MODULE);
		iput(inode);
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	file->f_mode |= FMODE_LSEEK;	/* 5.10 leaves it out */
	file->private_data = vl;
	get_device(&vl->dev);
	fd_install(fd, file);
	return fd;
}
