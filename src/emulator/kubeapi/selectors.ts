import { scalarText } from "#emulator/config/documents.ts";
import type { KubeObject } from "./objects.ts";
import { badRequest } from "./status.ts";

/** Whether an object is selected. */
export type Selector = (object: KubeObject) => boolean;

/** A label selector: `a=b,c!=d,e,!f,g in (x,y)`. Throws a KubeError. */
export function labelSelector(text: string): Selector {
  const tests = splitTerms(text).map((term): ((labels: Record<string, string>) => boolean) => {
    const set = /^([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)$/.exec(term);
    if (set) {
      const values = (set[3] ?? "").split(",").map((value) => value.trim());
      const key = set[1] ?? "";
      return (labels) => values.includes(labelOf(labels, key) ?? "\0") === (set[2] === "in");
    }
    const compare = /^([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)$/.exec(term);
    if (compare) return (labels) => (labelOf(labels, compare[1] ?? "") === compare[3]) === (compare[2] !== "!=");
    const exists = /^(!?)\s*([\w./-]+)$/.exec(term);
    if (exists) return (labels) => (labelOf(labels, exists[2] ?? "") !== undefined) === (exists[1] === "");
    throw badRequest(`unable to parse requirement: "${term.slice(0, 100)}"`);
  });
  return (object) => tests.every((test) => test(object.metadata.labels ?? {}));
}

function labelOf(labels: Record<string, string>, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

/** A field selector: `metadata.name=x,spec.nodeName!=y`. Throws a KubeError. */
export function fieldSelector(text: string): Selector {
  const tests = splitTerms(text).map((term): Selector => {
    const compare = /^([\w.]+)\s*(==|=|!=)\s*(.*)$/.exec(term);
    if (!compare) throw badRequest(`invalid selector: '${term.slice(0, 100)}'`);
    const [, path = "", operator, wanted] = compare;
    return (object) => {
      let value: unknown = object;
      for (const key of path.split("."))
        value =
          typeof value === "object" && value !== null && Object.hasOwn(value, key)
            ? (value as Record<string, unknown>)[key]
            : undefined;
      return (scalarText(value) === wanted) === (operator !== "!=");
    };
  });
  return (object) => tests.every((test) => test(object));
}

function splitTerms(text: string): string[] {
  return text
    .split(/,(?![^(]*\))/)
    .map((term) => term.trim())
    .filter((term) => term !== "");
}
