import { create } from "@bufbuild/protobuf";
import type { Deps } from "#controllers/deps.ts";
import type { Controller } from "#engine/controller.ts";
import { transform } from "#engine/transform.ts";
import { MachineConfigGenOptionsSpec_InstallImageSchema } from "#gen/specs/specs_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { label } from "#kinds/labels.ts";
import { MachineConfigGenOptionsKind } from "#kinds/machine/machine-config-gen-options.ts";
import { MachineDetailsKind } from "#kinds/machine/machine-details.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { codeOf } from "#lib/errors.ts";
import { chooseInstallDisk } from "#talos/install.ts";

/** Chooses where and from what image a machine is installed. */
export function machineConfigGenOptionsController({ settings }: Deps): Controller {
  return transform({
    name: "machine-config-gen-options",
    purpose: "Chooses the disk and the image that a machine is installed with.",
    input: MachineStatusKind,
    output: MachineConfigGenOptionsKind,
    inputs: [
      { kind: MachineDetailsKind },
      // Its version is fixed while machines are in it: see the talosVersion below.
      { kind: ClusterKind, wakes: () => [] },
    ],
    concurrency: 16,
    async transform(context, { metadata, spec }) {
      const disks = spec.hardware?.blockdevices ?? [];
      if (disks.length === 0) return false;
      const cluster = metadata.labels[label.cluster];
      const wanted = cluster && (await context.get(ClusterKind, cluster))?.spec.talosVersion;
      let disk = "";
      try {
        disk = chooseInstallDisk(
          disks.map(({ linuxName, size, readonly, type, transport, systemDisk }) => ({
            path: linuxName,
            size: Number(size),
            readonly,
            cdrom: type === "CD",
            transport,
            composite: /^\/dev\/(md|dm-)/.test(linuxName),
            systemDisk,
          })),
        );
      } catch (error) {
        // Said by the installation, when one is wanted.
        if (codeOf(error) !== "failed_precondition") throw error;
      }
      return (draft) => {
        draft.spec.installDisk = disk;
        draft.spec.installImage = create(MachineConfigGenOptionsSpec_InstallImageSchema, {
          talosVersion: (wanted || draft.spec.installImage?.talosVersion || spec.talosVersion).replace(/^v/, ""),
          schematicId: spec.schematic?.fullId ?? "",
          schematicInitialized: spec.schematic !== undefined,
          schematicInvalid: spec.schematic?.invalid ?? false,
          platform: spec.platformMetadata?.platform ?? "metal",
          ...(spec.securityState ? { securityState: spec.securityState } : {}),
          imageFactoryHost: new URL(settings.imageFactory).host,
        });
      };
    },
  });
}
