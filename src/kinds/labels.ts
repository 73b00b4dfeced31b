/** Labels and annotations with Omni's public names (protocols.md 11.4). */
const prefix = "omni.sidero.dev/";

export const label = {
  cluster: `${prefix}cluster`,
  machineSet: `${prefix}machine-set`,
  clusterMachine: `${prefix}cluster-machine`,
  machine: `${prefix}machine`,
  roleControlPlane: `${prefix}role-controlplane`,
  roleWorker: `${prefix}role-worker`,
  systemPatch: `${prefix}system-patch`,
  disabled: `${prefix}disabled`,
  clusterUUID: `${prefix}cluster-uuid`,
  machineClassName: `${prefix}machine-class-name`,
  // Set on MachineStatuses by the plane; values are text, flags are empty.
  connected: `${prefix}connected`,
  disconnected: `${prefix}disconnected`,
  available: `${prefix}available`,
  installed: `${prefix}installed`,
  invalidState: `${prefix}invalid-state`,
  reportingEvents: `${prefix}reporting-events`,
  readyToUse: `${prefix}ready-to-use`,
  cores: `${prefix}cores`,
  cpu: `${prefix}cpu`,
  mem: `${prefix}mem`,
  storage: `${prefix}storage`,
  net: `${prefix}net`,
  arch: `${prefix}arch`,
  platform: `${prefix}platform`,
  region: `${prefix}region`,
  zone: `${prefix}zone`,
  instance: `${prefix}instance`,
  talosVersion: `${prefix}talos-version`,
  address: `${prefix}address`,
} as const;

export const annotation = {
  locked: `${prefix}locked`,
  clusterLocked: `${prefix}cluster-locked`,
  managedByClusterTemplates: `${prefix}managed-by-cluster-templates`,
  name: "name",
  description: "description",
} as const;

/** On pending machines and their statuses (protocols.md 2.8). */
export const pending = {
  /** Label: the UUID that the machine gave. */
  uuidLabel: `${prefix}machine-uuid`,
  /** Annotation: that UUID is taken by other hardware. */
  conflictAnnotation: `${prefix}uuid-conflict`,
  /** Annotation of the status: the UUID that it gets instead. */
  newUUIDAnnotation: `${prefix}new-machine-uuid`,
  /** Annotation of a link: Talos was installed when its unique token was issued. */
  installedAnnotation: `${prefix}force-valid-unique-token`,
} as const;
