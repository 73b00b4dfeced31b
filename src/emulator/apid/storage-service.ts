import type { ServiceImpl } from "@connectrpc/connect";
import { Disk_DiskType, type StorageService } from "#gen/storage/storage_pb.ts";
import { IchorError } from "#lib/errors.ts";
import { bootOf } from "./call.ts";

/** Disks, old style. */
export const storageService: Partial<ServiceImpl<typeof StorageService>> = {
  disks(_, context) {
    const { hardware, disk: content } = bootOf(context).chassis;
    const kinds = {
      nvme: Disk_DiskType.NVME,
      mmc: Disk_DiskType.SD,
      sata: Disk_DiskType.SSD,
      usb: Disk_DiskType.HDD,
    } as const;
    return {
      messages: [
        {
          disks: hardware.disks.map((disk) => ({
            size: BigInt(disk.bytes),
            model: disk.model,
            deviceName: disk.path,
            name: disk.model,
            serial: disk.serial,
            wwid: disk.wwid,
            type: disk.rotational ? Disk_DiskType.HDD : kinds[disk.transport],
            busPath: disk.busPath,
            systemDisk: content.installed?.disk === disk.path,
            subsystem: "/sys/class/block",
          })),
        },
      ],
    };
  },
  blockDeviceWipe(request, context) {
    const { hardware, disk: content } = bootOf(context).chassis;
    for (const { device } of request.devices) {
      const disk = hardware.disks.find((candidate) => candidate.name === device);
      if (!disk) throw new IchorError("not_found", `blockdevice "${device}" not found`);
      if (content.installed?.disk === disk.path)
        throw new IchorError("failed_precondition", `blockdevice "${device}" is in use by the system disk`);
    }
    return { messages: [{}] };
  },
};
