// SPDX-License-Identifier: GPL-2.0-only
/*
 * The PCI function of the virtual NPU: ivshmem-doorbell of QEMU and ACRN. BAR0 has the registers,
 * BAR1 the MSI-X table, BAR2 the window.
 */
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>

#include "unpu_transport.h"
#include "uapi/unpu_proto.h"

#define UNPU_PCI_VENDOR		0x1af4
#define UNPU_PCI_DEVICE		0x1110

#define UNPU_PCI_BAR_REGS	0
#define UNPU_PCI_BAR_WINDOW	2
#define UNPU_PCI_DOORBELL	0x0c	/* peer << 16 | vector */

/* A peer that rings more often than this without a completion is not listened to for a while. */
#define UNPU_PCI_STORM_IRQS	1000u	/* in a second */
#define UNPU_PCI_QUIET_POLL_MS	10u
#define UNPU_PCI_QUIET_POLLS	100u

struct unpu_pci {
	struct unpu_transport transport;
	struct unpu_device *udev;
	struct device *dev;
	void __iomem *regs;
	int irq;

	/* In the interrupt handler, and in the poll while that is masked. */
	unsigned int irqs;		/* since irqs_since or the last completion */
	unsigned long irqs_since;	/* jiffies */
	struct delayed_work quiet;
	unsigned int quiet_polls;
};

static void unpu_pci_ring(struct unpu_transport *transport)
{
	struct unpu_pci *upci = container_of(transport, struct unpu_pci, transport);

	/* writel() orders what was written to the window before it. */
	writel(UNPU_PROTO_PEER_DEVICE << 16, upci->regs + UNPU_PCI_DOORBELL);
}

static irqreturn_t unpu_pci_irq(int irq, void *data)
{
	struct unpu_pci *upci = data;

	if (time_after(jiffies, upci->irqs_since + HZ)) {
		upci->irqs_since = jiffies;
		WRITE_ONCE(upci->irqs, 0);
	}
	WRITE_ONCE(upci->irqs, READ_ONCE(upci->irqs) + 1);
	if (READ_ONCE(upci->irqs) <= UNPU_PCI_STORM_IRQS)
		return IRQ_WAKE_THREAD;
	disable_irq_nosync(irq);
	schedule_delayed_work(&upci->quiet, msecs_to_jiffies(UNPU_PCI_QUIET_POLL_MS));
	return IRQ_HANDLED;
}

static irqreturn_t unpu_pci_irq_thread(int irq, void *data)
{
	struct unpu_pci *upci = data;

	if (unpu_proto_events(upci->udev))
		WRITE_ONCE(upci->irqs, 0);
	return IRQ_HANDLED;
}

static void unpu_pci_quiet(struct work_struct *work)
{
	struct unpu_pci *upci = container_of(work, struct unpu_pci, quiet.work);

	if (!upci->quiet_polls)
		dev_warn_ratelimited(upci->dev,
				     "%u interrupts in a second without a completion: polling\n",
				     UNPU_PCI_STORM_IRQS);
	unpu_proto_events(upci->udev);
	if (++upci->quiet_polls < UNPU_PCI_QUIET_POLLS) {
		schedule_delayed_work(&upci->quiet, msecs_to_jiffies(UNPU_PCI_QUIET_POLL_MS));
		return;
	}
	upci->quiet_polls = 0;
	upci->irqs = 0;
	upci->irqs_since = jiffies;
	enable_irq(upci->irq);
}

/* One cacheable mapping for the life of the device: memory types of two would have to agree. */
static void *unpu_pci_map_window(struct pci_dev *pdev)
{
	resource_size_t bytes = pci_resource_len(pdev, UNPU_PCI_BAR_WINDOW);
	int err;

	if (bytes < UNPU_PROTO_MIN_WINDOW) {
		dev_info(&pdev->dev, "not a unpu device: no shared memory of at least %u bytes\n",
			 UNPU_PROTO_MIN_WINDOW);
		return ERR_PTR(-ENODEV);
	}
	err = pcim_request_region(pdev, UNPU_PCI_BAR_WINDOW, KBUILD_MODNAME);
	if (err)
		return ERR_PTR(err);
	return devm_memremap(&pdev->dev, pci_resource_start(pdev, UNPU_PCI_BAR_WINDOW), bytes,
			     MEMREMAP_WB);
}

/* After all mappings: devm ends it before them. */
static int unpu_pci_request_irq(struct unpu_pci *upci, struct pci_dev *pdev)
{
	int err;

	pci_set_master(pdev);
	err = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSIX);
	if (err < 0)
		return dev_err_probe(&pdev->dev, err, "no MSI-X vector\n");
	upci->irq = pci_irq_vector(pdev, 0);
	upci->irqs_since = jiffies;
	err = devm_request_threaded_irq(&pdev->dev, upci->irq, unpu_pci_irq, unpu_pci_irq_thread,
					0, KBUILD_MODNAME, upci);
	if (err)
		return dev_err_probe(&pdev->dev, err, "the interrupt cannot be had\n");
	return 0;
}

static void unpu_pci_stop(struct unpu_pci *upci)
{
	disable_irq(upci->irq);
	cancel_delayed_work_sync(&upci->quiet);
}

static int unpu_pci_start(struct unpu_pci *upci, struct pci_dev *pdev, void *window)
{
	struct unpu_device *udev = upci->udev;
	int err;

	udev->window = window;
	udev->window_phys = pci_resource_start(pdev, UNPU_PCI_BAR_WINDOW);
	udev->window_bytes = pci_resource_len(pdev, UNPU_PCI_BAR_WINDOW);
	upci->transport.ring = unpu_pci_ring;
	err = unpu_proto_create(udev, &upci->transport);
	if (err)
		return err;
	err = unpu_pci_request_irq(upci, pdev);
	if (err)
		return err;
	err = unpu_device_register(udev);
	if (err)
		unpu_pci_stop(upci);
	return err;
}

static int unpu_pci_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct unpu_pci *upci;
	void *window;
	int err;

	err = pcim_enable_device(pdev);
	if (err)
		return err;
	/* Others use this PCI id: look before anything of the function is touched. */
	window = unpu_pci_map_window(pdev);
	if (IS_ERR(window))
		return PTR_ERR(window);
	err = unpu_proto_check(&pdev->dev, window, pci_resource_len(pdev, UNPU_PCI_BAR_WINDOW));
	if (err)
		return err;

	upci = devm_kzalloc(&pdev->dev, sizeof(*upci), GFP_KERNEL);
	if (!upci)
		return -ENOMEM;
	upci->dev = &pdev->dev;
	INIT_DELAYED_WORK(&upci->quiet, unpu_pci_quiet);
	upci->regs = pcim_iomap_region(pdev, UNPU_PCI_BAR_REGS, KBUILD_MODNAME);
	if (IS_ERR(upci->regs))
		return PTR_ERR(upci->regs);
	upci->udev = unpu_device_create(&pdev->dev, &unpu_proto_ops);
	if (IS_ERR(upci->udev))
		return PTR_ERR(upci->udev);
	pci_set_drvdata(pdev, upci);
	return unpu_pci_start(upci, pdev, window);
}

static void unpu_pci_remove(struct pci_dev *pdev)
{
	struct unpu_pci *upci = pci_get_drvdata(pdev);

	unpu_device_remove(upci->udev);
	unpu_pci_stop(upci);
}

static int unpu_pci_suspend(struct device *dev)
{
	struct unpu_pci *upci = dev_get_drvdata(dev);

	return unpu_device_suspend(upci->udev);
}

static int unpu_pci_resume(struct device *dev)
{
	struct unpu_pci *upci = dev_get_drvdata(dev);

	return unpu_device_resume(upci->udev);
}

static DEFINE_SIMPLE_DEV_PM_OPS(unpu_pci_pm, unpu_pci_suspend, unpu_pci_resume);

static const struct pci_device_id unpu_pci_ids[] = {
	{ PCI_DEVICE(UNPU_PCI_VENDOR, UNPU_PCI_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, unpu_pci_ids);

static struct pci_driver unpu_pci_driver = {
	.name = KBUILD_MODNAME,
	.id_table = unpu_pci_ids,
	.probe = unpu_pci_probe,
	.remove = unpu_pci_remove,
	/* A kexec finds a device that has forgotten this driver; nothing waits for the peer. */
	.shutdown = unpu_pci_remove,
	.driver.pm = pm_sleep_ptr(&unpu_pci_pm),
};

int unpu_pci_register(void)
{
	return pci_register_driver(&unpu_pci_driver);
}

void unpu_pci_unregister(void)
{
	pci_unregister_driver(&unpu_pci_driver);
}
