/** The singular of the plural names that kinds of resources have: `MachineStatuses` → `MachineStatus`, `ConfigPatches` → `ConfigPatch`. */
export function singular(plural: string): string {
  if (/ies$/.test(plural)) return plural.replace(/ies$/, "y");
  if (/(s|x|ch|sh)es$/.test(plural)) return plural.slice(0, -2);
  return plural.replace(/(?<!s)s$/, "");
}
