import { createHash } from "node:crypto";
import type { ServiceImpl } from "@connectrpc/connect";
import { pullImage } from "#emulator/installer.ts";
import { timestamp } from "#emulator/services.ts";
import { type ImageService, ImageServicePullLayerProgress_Status } from "#gen/machine/machine_pb.ts";
import { IchorError } from "#lib/errors.ts";
import { bootOf } from "./call.ts";

/** Images in the machine's store (1.13 on). */
export const imageService: Partial<ServiceImpl<typeof ImageService>> = {
  async *list(_, context) {
    const boot = bootOf(context);
    for (const name of boot.chassis.disk.images)
      yield { name, digest: digest(name), size: 84_000_000n, createdAt: timestamp(boot.started) };
  },
  async *pull(request, context) {
    const boot = bootOf(context);
    if (!request.imageRef) throw new IchorError("invalid_argument", "image reference is required");
    const layer = digest(`${request.imageRef}/layer`);
    const step = (status: ImageServicePullLayerProgress_Status, offset: number) => ({
      response: {
        case: "pullProgress" as const,
        value: { layerId: layer, progress: { status, offset: BigInt(offset), total: 84_000_000n } },
      },
    });
    yield step(ImageServicePullLayerProgress_Status.DOWNLOADING, 0);
    const { already } = await pullImage(boot, request.imageRef);
    const done = already
      ? ImageServicePullLayerProgress_Status.ALREADY_EXISTS
      : ImageServicePullLayerProgress_Status.EXTRACT_COMPLETE;
    yield step(done, 84_000_000);
    yield { response: { case: "name" as const, value: request.imageRef } };
  },
  remove(request, context) {
    const { disk } = bootOf(context).chassis;
    if (!disk.images.includes(request.imageRef))
      throw new IchorError("not_found", `image "${request.imageRef}": not found`);
    disk.images = disk.images.filter((image) => image !== request.imageRef);
    return {};
  },
};

function digest(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}
