/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One loopback device, and what the files of the driver ask of each other.
 *
 * Lifetime: struct vl_device.dev is the anchor. The list of devices, the
 * attached control file, every memory file, the virtio device and every work
 * item under way hold a reference to it. Each device holds the module.
 *
 * Locks, in the order in which they are taken:
 *
 *	vl_control.mutex	CREATE and ATTACH of one open file
 *	vl_devices_mutex	the list of devices and their names (device.c)
 *	vl_users_mutex		what each user has; alone (rights.c)
 *	vl_device.eventfds	a mutex: attaching and detaching eventfds
 *	vl_device.lock		spinlock, process context: state, requests
 *	vl_sleep_lock		spinlock, process context; alone (sleep.c)
 *	vl_queue.irq_lock	spinlock, an interrupt of ours: the driver's
 *				callback, which may take any of those below
 *	vl_memory.sem		faults read, removing pages writes (memory.c)
 *	vl_memory.lock		spinlock, any context: who has which page
 *	vl_bounce.lock		spinlock, any context: the slots
 *	vl_queue.kick_lock	spinlock, any context: the kick eventfd
 *	vl_device.config_lock	spinlock, any context: the config space
 *
 * No lock is held over a wait for user space.
 */
#ifndef VL_LOOPBACK_H
#define VL_LOOPBACK_H

#include <linux/device.h>
#include <linux/dma-direction.h>
#include <linux/irq_work.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/poll.h>
#include <linux/rbtree.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <sound/core.h>
#include <sound/pcm.h>
#include <uapi/linux/virtio_loopback.h>

struct eventfd_ctx;
struct gen_pool;
struct vl_device;
struct vl_range;
struct vl_small;
struct vl_user;

/* An open control file. */
struct vl_control {
	struct file *file;	/* which this belongs to, and lives as long as */
	struct vl_device *vl;	/* set once, by CREATE or ATTACH */
	/* One CREATE or ATTACH at a time. */
	struct mutex mutex;
	wait_queue_head_t wait;	/* readers: a request, or the end */
};

struct vl_queue {
	struct vl_device *vl;
	u32 index;
	u32 max_size;

	/* Set by find_vqs, cleared by del_vqs once no callback can run. */
	struct virtqueue *vq;
	bool muted;		/* calls are for nobody, see unbind.c */
	/* Where it is; under vl_device.lock. */
	u32 size;
	u64 desc_addr;
	u64 driver_addr;
	u64 device_addr;

	/* Any context; the three below. */
	spinlock_t kick_lock;
	struct eventfd_ctx *kick;
	bool kicked;		/* while there was no eventfd */
	u64 kicks;

	/* Under vl_device.eventfds, but for what the callbacks touch. */
	struct eventfd_ctx *call;
	wait_queue_entry_t call_wait;
	poll_table call_poll;
	struct irq_work call_irq;
	spinlock_t irq_lock;	/* one interrupt at a time */
	struct work_struct call_work;
	/* The worker that runs call_work now, and what it may still hand over. */
	struct task_struct *caller;
	unsigned int buffers_left;
	bool call_hung_up;	/* the last user of call closed it */
	atomic64_t calls;
};

/* As long as virtio_snd waits for an answer, unless its msg_timeout_ms says. */
#define VL_ANSWERS_MS		1000
/* So long is an answer heard for which it may not wait any more later. */
#define VL_HEARD_MS		(VL_ANSWERS_MS * 9 / 10)
/* The most that is handed to a device between two of its interrupts. */
#define VL_BUFFERS_A_CALL	(4 * VIRTIO_LOOPBACK_MAX_QUEUE_SIZE)

/* Queues of a sound device: control messages, events, what is played, captured. */
enum { VL_SND_CONTROL, VL_SND_EVENT, VL_SND_TX, VL_SND_RX };

/* Numbers of a sound device's PCMs; ALSA has no minor numbers for more. */
#define VL_SOUND_PCMS		256

/* What an answer of a device is, see answers.c. */
enum vl_answer {
	VL_ANSWER_PLAIN,
	VL_ANSWER_TIMELY,	/* as it is, if it is not too late */
	VL_ANSWER_TLV,
	VL_ANSWER_STREAMS,
	VL_ANSWER_CHANNEL_MAPS,
	VL_ANSWER_CONTROLS,
};

enum vl_write { VL_WRITE_ALLOWED, VL_WRITE_REFUSED, VL_WRITE_LATER };

/* The address space of a device: an address is an offset in its file. */
struct vl_memory {
	struct inode *inode;
	unsigned long pages;
	/* Pages [start, start + count) of each part. */
	unsigned long coherent_start, coherent_count;
	unsigned long bounce_start, bounce_count;
	unsigned long window_start, window_count;

	/* Faults read, taking pages away writes. */
	struct rw_semaphore sem;
	/* Any context; who has which page, and vl_zero_copy. */
	spinlock_t lock;
	/* What is at each page, NULL: nothing. Cleared only under sem. */
	struct page **index;
	/* Pages that cannot be given out: in use, or stale. */
	unsigned long *busy;
	/* Nothing is there, but a process may have the scratch page there. */
	unsigned long *stale;
	struct page *scratch;
	struct delayed_work zap_work;
};

struct vl_bounce {
	void *arena;
	dma_addr_t base;
	size_t size;
	struct gen_pool *pool;	/* behind the small slots */
	/* Any context; the slots. */
	spinlock_t lock;
	struct rb_root slots;
	/* The arena starts with these, of the smallest size. */
	struct vl_small *small;
	unsigned int small_count;
	unsigned int small_used;
	u16 small_free;		/* the first free one */
};

struct vl_zero_copy {
	/* All under vl_memory.lock. */
	struct rb_root by_pfn;
	struct vl_range **by_page;	/* at the first page of each range */
	struct list_head idle;		/* ranges that may go, oldest first */
	unsigned long pages;
	unsigned long max_pages;
	bool pressure;
	struct timer_list age_timer;
	struct work_struct evict_work;
};

struct vl_counters {
	atomic64_t bounced_bytes;
	atomic64_t bounce_full;
	atomic64_t zero_copy_full;
	atomic64_t requests;
	atomic64_t request_timeouts;
	atomic64_t restarts;
};

struct vl_device {
	struct device dev;
	struct virtio_device vdev;
	struct list_head entry;
	char name[VIRTIO_LOOPBACK_NAME_SIZE];
	u32 device_id;
	u32 vendor_id;
	u32 flags;
	u64 features;
	kuid_t owner;
	struct vl_user *user;	/* what it counts for, and how much */
	size_t charged;
	u32 queue_count;
	struct vl_queue *queues;
	u32 config_size;
	/* Any context; what is in the config space. */
	spinlock_t config_lock;
	u8 *config;
	u32 config_generation;
	struct work_struct free_work;

	/* register, probe again, unregister: one after the other */
	struct work_struct life_work;
	bool registered;	/* both: life_work only */
	bool removed;

	/* The task that removes the driver, while nothing may be asked. */
	struct task_struct *unbinding;
	/* The task that binds a driver; when, in jiffies, that last asked. */
	struct task_struct *probing;
	unsigned long asked;
	unsigned int probe_left;	/* buffers that it may hand over */
	bool early;		/* an application has used a PCM meanwhile */
	struct notifier_block unbind_block;

	/* The task whose buffers for an answer are being mapped, see answers.c. */
	struct task_struct *asking;
	enum vl_answer answer;
	unsigned int answer_parts;	/* that are still to be mapped */
	/* The PCMs of a sound device that have streams, since it was bound. */
	DECLARE_BITMAP(pcms, VL_SOUND_PCMS);
	/* Of each direction, see pcm.c: the driver's, and ours around them. */
	const struct snd_pcm_ops *pcm_original[2];
	struct snd_pcm_ops pcm_ops[2];

	/* Process context; from here to stopping. */
	spinlock_t lock;
	struct vl_control *control;
	struct list_head requests;
	u64 last_request_id;
	u8 status;
	u64 driver_features;
	bool dying;
	bool probe_again;
	bool config_ready;	/* virtio_config_changed() may be called */
	bool start_pending;
	bool started;		/* START was answered with 0 */
	bool used;		/* START was announced since DRIVER_OK */
	bool abandoned;		/* the last call eventfd was hung up */
	bool broken;		/* the driver will not use its queues any more */
	bool stopping;

	wait_queue_head_t wait;	/* for answers */
	struct delayed_work expire_work;

	/* Attaching and detaching eventfds. */
	struct mutex eventfds;
	bool accept_eventfds;	/* between DRIVER_OK and reset */
	struct work_struct hangup_work;

	struct vl_memory memory;
	struct vl_bounce bounce;
	struct vl_zero_copy zero_copy;
	struct vl_counters counters;
};

/*
 * The attached device, or NULL; without a reference, as the open file has one.
 */
static inline struct vl_device *vl_control_attached(struct vl_control *control)
{
	/* Pairs with vl_control_set_attached(). */
	return smp_load_acquire(&control->vl);
}

#define dev_to_vl(d)	container_of(d, struct vl_device, dev)
#define vdev_to_vl(v)	container_of(v, struct vl_device, vdev)

extern struct workqueue_struct *vl_workqueue;
extern struct workqueue_struct *vl_tlv_workqueue;

/* device.c */
int vl_class_register(void);
void vl_class_unregister(void);
struct vl_device *vl_device_create(const struct virtio_loopback_create *args,
				   u8 *config, const u32 *queue_sizes,
				   struct vl_control *control);
struct vl_device *vl_device_attach(const char *name,
				   struct vl_control *control);
void vl_device_detach(struct vl_device *vl, struct vl_control *control);
int vl_device_destroy(const char *name, struct vl_control *control);
u32 vl_device_list(struct virtio_loopback_device *devices, u32 capacity);
void vl_device_describe(struct vl_device *vl,
			struct virtio_loopback_device *out);
u32 vl_device_state(struct vl_device *vl);
void vl_device_prolong_all(void);
void vl_device_wake_all(void);
int vl_device_may_probe(struct vl_device *vl);
void vl_device_mend(struct vl_device *vl);

/* control.c */
int vl_control_register(void);
void vl_control_unregister(void);

/* ioctl.c */
long vl_control_ioctl(struct file *file, unsigned int cmd,
		      unsigned long argument);

/* rights.c */
int vl_rights_to_create(struct vl_control *control, u32 device_id);
bool vl_rights_to(struct vl_device *vl, struct vl_control *control);
int vl_user_charge(struct vl_device *vl, struct vl_control *control,
		   size_t memory);
void vl_user_uncharge(struct vl_device *vl);

/* request.c */
void vl_request_init(struct vl_device *vl);
void vl_request_start(struct vl_device *vl, bool wait);
void vl_request_stop(struct vl_device *vl);
void vl_request_config_write(struct vl_device *vl, u32 offset,
			     const void *data, u32 length);
void vl_request_abandon(struct vl_device *vl);
void vl_request_cancel(struct vl_device *vl);
void vl_request_prolong(struct vl_device *vl);
bool vl_request_readable(struct vl_device *vl);
int vl_request_read(struct vl_device *vl, struct virtio_loopback_request *out);
void vl_request_unread(struct vl_device *vl, u64 id);
int vl_request_answer(struct vl_device *vl, u64 id, s32 status);

/* transport.c */
void vl_transport_init(struct vl_device *vl);
int vl_transport_set_config(struct vl_device *vl,
			    const struct virtio_loopback_config *args,
			    const void *data);
u64 vl_transport_features(void);
bool vl_config_sensible(u32 device_id, const u8 *config, u32 size);
bool vl_queues_sensible(u32 device_id, const u32 *sizes, u32 count);

/* queue.c */
void vl_queue_init(struct vl_device *vl, u32 index, u32 max_size);
void vl_queue_call(struct vl_queue *queue);
bool vl_queue_floods(struct vl_device *vl, bool to_device);
bool vl_queue_notify(struct virtqueue *vq);
int vl_queue_set_eventfds(struct vl_queue *queue, int kick, int call);
void vl_queue_accept_eventfds(struct vl_device *vl);
void vl_queue_detach_all(struct vl_device *vl);
void vl_queue_flush(struct vl_device *vl);
void vl_queue_synchronize(struct vl_device *vl);
void vl_queue_hangup_work(struct work_struct *work);
void vl_queue_see_served(struct vl_device *vl);
void vl_queue_driver_ok(struct vl_device *vl);
void vl_queue_let_go(struct vl_device *vl);

/* memory.c */
int vl_memory_init(struct vl_device *vl, size_t bounce_size,
		   size_t zero_copy_size);
void vl_memory_destroy(struct vl_device *vl);
struct page *vl_memory_fault(struct vl_device *vl, unsigned long pgoff);
enum vl_write vl_memory_write(struct vl_device *vl, const struct page *page,
			      unsigned long pgoff);
struct vl_unmap {
	unsigned int parts;
	unsigned long first, end;	/* of what is left for the end */
};

#define VL_UNMAP_NONE	{ .first = ULONG_MAX }

void vl_memory_unmap(struct vl_memory *memory, unsigned long first,
		     unsigned long count);
void vl_memory_unmap_part(struct vl_memory *memory, struct vl_unmap *unmap,
			  unsigned long first, unsigned long count);
void vl_memory_unmap_rest(struct vl_memory *memory, struct vl_unmap *unmap);
void vl_memory_zap_stale(struct vl_memory *memory);
long vl_memory_find(struct vl_memory *memory, unsigned long start,
		    unsigned long count, unsigned long want);
void *vl_coherent_alloc(struct vl_device *vl, size_t size, dma_addr_t *addr,
			gfp_t gfp);
void vl_coherent_free(struct vl_device *vl, size_t size, void *vaddr,
		      dma_addr_t addr);
static inline bool vl_in_window(struct vl_device *vl, dma_addr_t addr)
{
	return (addr >> PAGE_SHIFT) >= vl->memory.window_start;
}

/* memory_file.c */
int vl_memory_file_init(struct vl_device *vl);
void vl_memory_file_destroy(struct vl_device *vl);
int vl_memory_file_open(struct vl_device *vl);

/* bounce.c */
int vl_bounce_init(struct vl_device *vl, size_t size);
void vl_bounce_destroy(struct vl_device *vl);
void vl_bounce_release_all(struct vl_device *vl);
size_t vl_bounce_used(struct vl_device *vl);
dma_addr_t vl_bounce_map(struct vl_device *vl, void *data, size_t size,
			 enum dma_data_direction dir, bool copy);
void vl_bounce_unmap(struct vl_device *vl, dma_addr_t addr,
		     enum dma_data_direction dir, bool copy);
void vl_bounce_sync(struct vl_device *vl, dma_addr_t addr, size_t size,
		    bool to_device);

/* zero_copy.c */
int vl_zero_copy_init(struct vl_device *vl, size_t size);
void vl_zero_copy_destroy(struct vl_device *vl);
void vl_zero_copy_release_all(struct vl_device *vl);
bool vl_zero_copy_map(struct vl_device *vl, struct page *page,
		      unsigned long offset, size_t size, dma_addr_t *addr);
bool vl_pages_eligible(unsigned long pfn, unsigned long count);
void vl_zero_copy_unmap(struct vl_device *vl, dma_addr_t addr);

/* dma.c */
int vl_dma_init(struct vl_device *vl);

/* sleep.c */
extern const struct dev_pm_ops vl_sleep_ops;
int vl_sleep_register(void);
void vl_sleep_unregister(void);
bool vl_sleep_near(void);
unsigned int vl_sleep_wakeups(void);
bool vl_sleep_since(unsigned int wakeups);
bool vl_sleep_probe_begin(void);
void vl_sleep_probe_end(void);

/* answers.c */
bool vl_answer_ask(struct vl_device *vl, const void *data, size_t size);
enum vl_answer vl_answer_expected(struct vl_device *vl);
void vl_answer_mapped(struct vl_device *vl);
void vl_answer_copy(struct vl_device *vl, enum vl_answer answer, void *data,
		    const void *memory, size_t size, unsigned long until);

/* pcm.c */
void vl_pcm_guard(struct vl_device *vl);

/* tlv.c */
void vl_tlv_guard(struct vl_device *vl);

/* unbind.c */
void vl_unbind_watch(struct vl_device *vl);
void vl_unbind_unwatch(struct vl_device *vl);
bool vl_is_sound(const struct device *child);
bool vl_unbind_refuses(struct vl_device *vl);
bool vl_unbind_mutes(struct vl_queue *queue);

/* sysfs.c */
extern const struct attribute_group *vl_sysfs_groups[];

#endif /* VL_LOOPBACK_H */
