/** The dump that the page brings: the page tables of a Debian guest with 5-level paging. */
import place from "../../../examples/debian-amd64-la57.elf.gz?url";

export const EXAMPLE_NAME = "debian-amd64-la57.elf.gz";

export async function loadExample(): Promise<File> {
  const response = await fetch(place);
  if (!response.ok) throw new Error(`${EXAMPLE_NAME}: ${response.status} ${response.statusText}`);
  return new File([await response.blob()], EXAMPLE_NAME);
}
