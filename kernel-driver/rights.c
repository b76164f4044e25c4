// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who may do what with whose device, and how much of it; "Rights" in the UAPI
 * header says so to the user. What counts is who opened the control file, not
 * who calls: a file that is handed on carries its rights with it.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uidgid.h>
#include <linux/user_namespace.h>
#include <linux/virtio_ids.h>

#include "compat.h"
#include "loopback.h"

#define VL_USER_TYPES_MAX	16

/* Half as many as ALSA has cards in most kernels: some are for others. */
static unsigned int max_user_devices = 16;
module_param(max_user_devices, uint, 0644);
MODULE_PARM_DESC(max_user_devices,
		 "Most devices of a user without CAP_SYS_RESOURCE (default 16)");

static unsigned int max_user_mib = 256;
module_param(max_user_mib, uint, 0644);
MODULE_PARM_DESC(max_user_mib,
		 "Most MiB, bounce and zero copy, of such a user's devices (default 256)");

static unsigned short user_types[VL_USER_TYPES_MAX] = { VIRTIO_ID_SOUND };
static unsigned int user_type_count = 1;
module_param_array(user_types, ushort, &user_type_count, 0444);
MODULE_PARM_DESC(user_types,
		 "Device types for users without CAP_SYS_ADMIN (default 25, sound)");

/* The devices of a user, until the last process has let go of their memory. */
struct vl_user {
	struct list_head entry;
	kuid_t uid;
	unsigned int devices;
	size_t memory;
};

static DEFINE_MUTEX(vl_users_mutex);
static LIST_HEAD(vl_users);

static bool vl_control_capable(struct vl_control *control, int capability)
{
	return file_ns_capable(control->file, &init_user_ns, capability);
}

static bool vl_type_for_users(u32 device_id)
{
	unsigned int i;

	for (i = 0; i < user_type_count; i++)
		if (user_types[i] == device_id)
			return true;
	return false;
}

/* Those whose drivers take addresses of physical memory from their device. */
static bool vl_type_physical(u32 device_id)
{
	return device_id == VIRTIO_ID_BALLOON || device_id == VIRTIO_ID_IOMMU ||
	       device_id == VIRTIO_ID_MEM || device_id == VIRTIO_ID_PMEM;
}

int vl_rights_to_create(struct vl_control *control, u32 device_id)
{
	if (vl_type_physical(device_id))
		return -EOPNOTSUPP;
	if (!vl_type_for_users(device_id) &&
	    !vl_control_capable(control, CAP_SYS_ADMIN))
		return -EPERM;
	return 0;
}

/* To attach to it, and to destroy it. */
bool vl_rights_to(struct vl_device *vl, struct vl_control *control)
{
	return uid_eq(vl->owner, control->file->f_cred->euid) ||
	       vl_control_capable(control, CAP_SYS_ADMIN);
}

/* Context: vl_users_mutex held. */
static struct vl_user *vl_user_find(kuid_t uid)
{
	struct vl_user *user;

	list_for_each_entry(user, &vl_users, entry)
		if (uid_eq(user->uid, uid))
			return user;
	return NULL;
}

/* Context: vl_users_mutex held. */
static struct vl_user *vl_user_get(kuid_t uid)
{
	struct vl_user *user = vl_user_find(uid);

	if (user)
		return user;
	user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
	if (user) {
		user->uid = uid;
		list_add(&user->entry, &vl_users);
	}
	return user;
}

/* Context: vl_users_mutex held. */
static void vl_user_put(struct vl_user *user)
{
	if (user->devices)
		return;
	list_del(&user->entry);
	kfree(user);
}

/* The device becomes the user's who opened the control file. */
int vl_user_charge(struct vl_device *vl, struct vl_control *control,
		   size_t memory)
{
	bool unlimited = vl_control_capable(control, CAP_SYS_RESOURCE);
	size_t most = (size_t)READ_ONCE(max_user_mib) * SZ_1M;
	struct vl_user *user;
	int err = 0;

	vl->owner = control->file->f_cred->euid;
	mutex_lock(&vl_users_mutex);
	user = vl_user_get(vl->owner);
	if (!user) {
		err = -ENOMEM;
	} else if (!unlimited &&
		   (user->devices >= READ_ONCE(max_user_devices) ||
		    user->memory >= most || memory > most - user->memory)) {
		err = -EDQUOT;
		vl_user_put(user);
	} else {
		user->devices++;
		user->memory += memory;
		vl->charged = memory;
		vl->user = user;
	}
	mutex_unlock(&vl_users_mutex);
	return err;
}

/* Context: nothing of the device's memory is left. */
void vl_user_uncharge(struct vl_device *vl)
{
	if (!vl->user)
		return;
	mutex_lock(&vl_users_mutex);
	vl->user->devices--;
	vl->user->memory -= vl->charged;
	vl_user_put(vl->user);
	mutex_unlock(&vl_users_mutex);
}
