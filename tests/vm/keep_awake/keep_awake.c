// SPDX-License-Identifier: GPL-2.0-only
/*
 * For tests of system sleep in a virtual machine: leaves the machine's own
 * virtio devices out of it. The guest's root is one of them (9p), and its
 * driver does not come back from sleep.
 */
#include <linux/device.h>
#include <linux/module.h>
#include <linux/pci.h>

static int keep_awake(struct device *dev, void *awake)
{
	dev_pm_syscore_device(dev, *(bool *)awake);
	return 0;
}

static int keep_all_awake(bool awake)
{
	struct device_driver *driver = driver_find("virtio-pci", &pci_bus_type);

	if (!driver)
		return -ENODEV;
	return driver_for_each_device(driver, NULL, &awake, keep_awake);
}

static int __init keep_awake_init(void)
{
	return keep_all_awake(true);
}

static void __exit keep_awake_exit(void)
{
	keep_all_awake(false);
}

module_init(keep_awake_init);
module_exit(keep_awake_exit);

MODULE_DESCRIPTION("Leaves the virtual machine's own devices out of sleep");
MODULE_LICENSE("GPL");
