/** Files with memory in them that are known by their first bytes and not read: each with its name and a way on. */

interface KnownFile {
  /** What the file begins with, character by character. */
  readonly magics: readonly string[];
  /** As a message names it. */
  readonly title: string;
  readonly wayOn: string;
}

const WINDOWS = "a complete memory dump by Windows can be read";
const QEMU = "load it into QEMU and use dump-guest-memory in the monitor";

const KNOWN: readonly KnownFile[] = [
  {
    // Of systems that sleep, that were resumed, and that sleep with a hypervisor; in either case of letters.
    magics: ["hibr", "HIBR", "wake", "WAKE", "rstr", "RSTR", "HORM"],
    title: "a Windows hibernation file (hiberfil.sys), which has compressed pages",
    wayOn: WINDOWS,
  },
  {
    magics: ["LibvirtQemudSave"],
    title: "a guest that libvirt has saved (virsh save), with a QEMU migration stream in it",
    wayOn: "virsh restore, then virsh dump --memory-only",
  },
  {
    magics: ["LibvirtQemudPart"],
    title: "a guest that libvirt has not saved to the end",
    wayOn: "virsh dump --memory-only",
  },
  { magics: ["QEVM"], title: "a QEMU migration stream (migrate, savevm)", wayOn: QEMU },
  { magics: ["QFI\xfb"], title: "a qcow2 disk, which may have a snapshot with memory (savevm)", wayOn: QEMU },
  {
    // The header of the key-value storage of .vmrs and .vmcx files: 0x01282014.
    magics: ["\x14\x20\x28\x01"],
    title: "a saved state of Hyper-V (.vmrs)",
    wayOn: `Microsoft's vmsavedstatedumpprovider.dll reads it, and ${WINDOWS}`,
  },
  { magics: ["Xen saved domain"], title: "a saved Xen guest (xl save)", wayOn: "xl restore, then xl dump-core" },
  { magics: ["MDMP"], title: "a minidump of a Windows process, which has no physical memory", wayOn: WINDOWS },
  { magics: ["PAGE"], title: "a Microsoft crash dump of a kind that is not known", wayOn: WINDOWS },
];

/** Name and way on of a file that begins so; undefined for one that is not known. */
export function knownFile(head: Uint8Array): { readonly title: string; readonly wayOn: string } | undefined {
  const begins = (magic: string) =>
    head.length >= magic.length && [...magic].every((one, i) => head[i] === one.charCodeAt(0));
  return KNOWN.find(({ magics }) => magics.some(begins));
}
