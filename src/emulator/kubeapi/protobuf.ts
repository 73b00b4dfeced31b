import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { KubeError } from "./status.ts";

/**
 * Messages of Kubernetes' `generated.proto` files, as far as kubectl sends them in its binary form: `number name type`. Types: `s` text,
 * `i` integer, `b` boolean, `y` bytes, `-` ignored, else a message; `*` repeated, `{}` map from text.
 */
const messages: Record<string, string> = {
  ObjectMeta: `1 name s,2 generateName s,3 namespace s,4 selfLink s,5 uid s,6 resourceVersion s,7 generation i,8 creationTimestamp -,
    9 deletionTimestamp -,10 deletionGracePeriodSeconds i,11 labels s{},12 annotations s{},13 ownerReferences OwnerReference*,
    14 finalizers s*,17 managedFields -`,
  OwnerReference: "1 kind s,3 name s,4 uid s,5 apiVersion s,6 controller b,7 blockOwnerDeletion b",
  LabelSelector: "1 matchLabels s{},2 matchExpressions Requirement*",
  Requirement: "1 key s,2 operator s,3 values s*",
  IntOrString: "1 type i,2 intVal i,3 strVal s",
  Quantity: "1 string s",
  ConfigMap: "1 metadata ObjectMeta,2 data s{},3 binaryData y{},4 immutable b",
  Secret: "1 metadata ObjectMeta,2 data y{},3 type s,4 stringData s{},5 immutable b",
  Namespace: "1 metadata ObjectMeta,2 spec NamespaceSpec,3 status -",
  NamespaceSpec: "1 finalizers s*",
  ServiceAccount: "1 metadata ObjectMeta,2 secrets -,3 imagePullSecrets Name*,4 automountServiceAccountToken b",
  Name: "1 name s",
  Service: "1 metadata ObjectMeta,2 spec ServiceSpec,3 status -",
  ServiceSpec: `1 ports ServicePort*,2 selector s{},3 clusterIP s,4 type s,5 externalIPs s*,7 sessionAffinity s,8 loadBalancerIP s,
    9 loadBalancerSourceRanges s*,10 externalName s,11 externalTrafficPolicy s,12 healthCheckNodePort i,13 publishNotReadyAddresses b`,
  ServicePort: "1 name s,2 protocol s,3 port i,4 targetPort IntOrString,5 nodePort i,6 appProtocol s",
  Pod: "1 metadata ObjectMeta,2 spec PodSpec,3 status -",
  PodTemplateSpec: "1 metadata ObjectMeta,2 spec PodSpec",
  PodSpec: `2 containers Container*,3 restartPolicy s,4 terminationGracePeriodSeconds i,5 activeDeadlineSeconds i,6 dnsPolicy s,
    7 nodeSelector s{},8 serviceAccountName s,9 serviceAccount s,10 nodeName s,11 hostNetwork b,12 hostPID b,13 hostIPC b,
    15 imagePullSecrets Name*,16 hostname s,17 subdomain s,19 schedulerName s,20 initContainers Container*,
    21 automountServiceAccountToken b,22 tolerations Toleration*,24 priorityClassName s,25 priority i`,
  Container: `1 name s,2 image s,3 command s*,4 args s*,5 workingDir s,6 ports ContainerPort*,7 env EnvVar*,8 resources Resources,
    13 terminationMessagePath s,14 imagePullPolicy s,16 stdin b,17 stdinOnce b,18 tty b,20 terminationMessagePolicy s`,
  ContainerPort: "1 name s,2 hostPort i,3 containerPort i,4 protocol s,5 hostIP s",
  EnvVar: "1 name s,2 value s",
  Resources: "1 limits Quantity{},2 requests Quantity{}",
  Toleration: "1 key s,2 operator s,3 value s,4 effect s,5 tolerationSeconds i",
  Deployment: "1 metadata ObjectMeta,2 spec DeploymentSpec,3 status -",
  DeploymentSpec: `1 replicas i,2 selector LabelSelector,3 template PodTemplateSpec,4 strategy Strategy,5 minReadySeconds i,
    6 revisionHistoryLimit i,7 paused b,9 progressDeadlineSeconds i`,
  Strategy: "1 type s,2 rollingUpdate RollingUpdate",
  RollingUpdate: "1 maxUnavailable IntOrString,2 maxSurge IntOrString",
  Job: "1 metadata ObjectMeta,2 spec JobSpec,3 status -",
  JobSpec: `1 parallelism i,2 completions i,3 activeDeadlineSeconds i,4 selector LabelSelector,5 manualSelector b,6 template PodTemplateSpec,
    7 backoffLimit i,8 ttlSecondsAfterFinished i`,
  Role: "1 metadata ObjectMeta,2 rules PolicyRule*",
  ClusterRole: "1 metadata ObjectMeta,2 rules PolicyRule*",
  PolicyRule: "1 verbs s*,2 apiGroups s*,3 resources s*,4 resourceNames s*,5 nonResourceURLs s*",
  RoleBinding: "1 metadata ObjectMeta,2 subjects Subject*,3 roleRef RoleRef",
  ClusterRoleBinding: "1 metadata ObjectMeta,2 subjects Subject*,3 roleRef RoleRef",
  Subject: "1 kind s,2 apiGroup s,3 name s,4 namespace s",
  RoleRef: "1 apiGroup s,2 kind s,3 name s",
  SelfSubjectReview: "1 metadata ObjectMeta,2 status -",
  SelfSubjectAccessReview: "1 metadata ObjectMeta,2 spec AccessSpec,3 status -",
  AccessSpec: "1 resourceAttributes ResourceAttributes,2 nonResourceAttributes NonResourceAttributes",
  ResourceAttributes: "1 namespace s,2 verb s,3 group s,4 version s,5 resource s,6 subresource s,7 name s",
  NonResourceAttributes: "1 path s,2 verb s",
  Eviction: "1 metadata ObjectMeta,2 deleteOptions DeleteOptions",
  DeleteOptions: "1 gracePeriodSeconds i,3 orphanDependents b,4 propagationPolicy s,5 dryRun s*",
};

interface Field {
  readonly name: string;
  readonly type: string;
  readonly form: "one" | "list" | "map";
}
const parsed = new Map<string, Map<number, Field>>();

function fieldsOf(message: string): Map<number, Field> {
  let fields = parsed.get(message);
  if (!fields) {
    fields = new Map(
      (messages[message] ?? "").split(",").map((text) => {
        const [number = "", name = "", type = ""] = text.trim().split(" ");
        const form = type.endsWith("*") ? "list" : type.endsWith("{}") ? "map" : "one";
        return [Number(number), { name, type: type.replace(/\*$|\{\}$/, ""), form }];
      }),
    );
    parsed.set(message, fields);
  }
  return fields;
}

/** Reads an object in Kubernetes' binary form (`application/vnd.kubernetes.protobuf`). Throws a KubeError: 400 malformed, 415 for what is not in the table. */
export function decodeProtobuf(bytes: Uint8Array): Record<string, unknown> {
  if (Buffer.compare(bytes.subarray(0, 4), Buffer.from("k8s\0")) !== 0) throw malformed();
  const { apiVersion, kind, raw } = guarded(() => envelope(new BinaryReader(bytes.subarray(4))));
  if (!Object.hasOwn(messages, kind)) throw unsupported(kind);
  return { apiVersion, kind, ...guarded(() => message(kind, new BinaryReader(raw), kind, 0)) };
}

function envelope(reader: BinaryReader): { apiVersion: string; kind: string; raw: Uint8Array } {
  const out: ReturnType<typeof envelope> = { apiVersion: "", kind: "", raw: new Uint8Array() };
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    if (number === 2) out.raw = reader.bytes();
    else if (number !== 1) reader.skip(wire, number);
    else {
      const meta = new BinaryReader(reader.bytes());
      while (meta.pos < meta.len) {
        const [field] = meta.tag();
        const text = meta.string();
        if (field === 1) out.apiVersion = text;
        else if (field === 2) out.kind = text;
      }
    }
  }
  return out;
}

function message(name: string, reader: BinaryReader, kind: string, depth: number): Record<string, unknown> {
  if (depth > 20) throw malformed();
  const fields = fieldsOf(name);
  const out: Record<string, unknown> = {};
  const set = (key: string, value: unknown) =>
    Object.defineProperty(out, key, { value, writable: true, enumerable: true, configurable: true });
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    const field = fields.get(number);
    if (!field) {
      // Go writes empty values too: only a value that says something would be lost.
      const rest = wire === WireType.LengthDelimited ? reader.bytes() : reader.skip(wire, number);
      if (rest.some((byte) => byte !== 0)) throw unsupported(`field ${number} of ${name} in a ${kind}`);
    } else if (field.type === "-") reader.skip(wire, number);
    else if (field.form === "map") {
      const { key, value } = entry(field.type, new BinaryReader(reader.bytes()), kind, depth);
      const map = (out[field.name] as Record<string, unknown> | undefined) ?? {};
      Object.defineProperty(map, key, { value, writable: true, enumerable: true, configurable: true });
      set(field.name, map);
    } else {
      const value = single(field.type, reader, kind, depth);
      if (field.form === "list") set(field.name, [...((out[field.name] as unknown[] | undefined) ?? []), value]);
      else if (!isEmpty(value)) set(field.name, value);
    }
  }
  return out;
}

function entry(type: string, reader: BinaryReader, kind: string, depth: number): { key: string; value: unknown } {
  const out: { key: string; value: unknown } = { key: "", value: "" };
  while (reader.pos < reader.len) {
    const [number] = reader.tag();
    if (number === 1) out.key = reader.string();
    else out.value = single(type, reader, kind, depth);
  }
  return out;
}

function single(type: string, reader: BinaryReader, kind: string, depth: number): unknown {
  switch (type) {
    case "s":
      return reader.string();
    case "y":
      return Buffer.from(reader.bytes()).toString("base64");
    case "b":
      return reader.bool();
    case "i":
      return Number(reader.int64());
    default: {
      const value = message(type, new BinaryReader(reader.bytes()), kind, depth + 1);
      if (type === "Quantity") return value.string ?? "0";
      if (type === "IntOrString") return value.type === 1 ? (value.strVal ?? "") : (value.intVal ?? 0);
      return value;
    }
  }
}

function isEmpty(value: unknown): boolean {
  return (
    value === "" || value === false || (typeof value === "object" && value !== null && Object.keys(value).length === 0)
  );
}

function guarded<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof KubeError ? error : malformed();
  }
}
const malformed = () => new KubeError(400, "BadRequest", "couldn't decode the protobuf body of the request");
const unsupported = (what: string) =>
  new KubeError(415, "UnsupportedMediaType", `the binary form of ${what} is not emulated: use kubectl apply`);
