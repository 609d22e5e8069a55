/** JSON schema as far as the schemas in docs use it. */

export type Schema = Readonly<Record<string, unknown>>;

/** What is wrong with a value, by the words of JSON schema that ours has. */
export function* problems(schema: Schema, value: unknown, path = "", root: Schema = schema): Generator<string> {
  const at = (name: string) => schema[name] as Schema | undefined;
  if (typeof schema.$ref === "string") {
    const name = schema.$ref.split("/").at(-1)!;
    yield* problems((root.$defs as Record<string, Schema>)[name]!, value, path, root);
  }
  if (schema.anyOf !== undefined) {
    const fits = (schema.anyOf as Schema[]).some((one) => problems(one, value, path, root).next().done === true);
    if (!fits) yield `${path}: fits none of ${(schema.anyOf as Schema[]).length}`;
  }
  for (const one of (schema.allOf as Schema[] | undefined) ?? []) yield* problems(one, value, path, root);
  if (at("if") !== undefined && problems(at("if")!, value, path, root).next().done === true) {
    yield* problems(at("then")!, value, path, root);
  }
  if (schema.enum !== undefined && !(schema.enum as unknown[]).includes(value)) yield `${path}: ${String(value)}`;
  if ("const" in schema && schema.const !== value) yield `${path}: ${String(value)}`;
  switch (schema.type) {
    case "string":
      if (typeof value !== "string") yield `${path}: no string`;
      else if (schema.pattern !== undefined && !new RegExp(schema.pattern as string).test(value))
        yield `${path}: ${value}`;
      break;
    case "integer": {
      const { minimum = -Infinity, maximum = Infinity } = schema as { minimum?: number; maximum?: number };
      if (!Number.isInteger(value) || (value as number) < minimum || (value as number) > maximum)
        yield `${path}: no integer`;
      break;
    }
    case "array": {
      if (!Array.isArray(value)) return yield `${path}: no array`;
      const { minItems = 0, maxItems = Infinity } = schema as { minItems?: number; maxItems?: number };
      if (value.length < minItems || value.length > maxItems) yield `${path}: ${value.length} items`;
      for (const [index, item] of value.entries()) yield* problems(at("items")!, item, `${path}[${index}]`, root);
      break;
    }
    case "object":
      if (typeof value !== "object" || value === null || Array.isArray(value)) return yield `${path}: no object`;
      break;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return;
  const members = value as Record<string, unknown>;
  for (const name of (schema.required as string[] | undefined) ?? [])
    if (!(name in members)) yield `${path}.${name}: missing`;
  const known = (at("properties") ?? {}) as Record<string, Schema>;
  for (const [name, item] of Object.entries(members)) {
    const member = known[name] ?? at("additionalProperties");
    if (member !== undefined && item !== null) yield* problems(member, item, `${path}.${name}`, root);
  }
}
