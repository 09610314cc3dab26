//! Whether a program is static, by its program headers (elf(5)).

/// Why a file is no 64-bit little-endian ELF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotElf;

impl std::fmt::Display for NotElf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a 64-bit little-endian ELF file, or cut short")
    }
}

/// `p_type` of the header that names the dynamic loader.
const PT_INTERP: u32 = 3;
/// Offsets in the ELF header: program headers' place, size of one, number.
const E_PHOFF: usize = 32;
const E_PHENTSIZE: usize = 54;
const E_PHNUM: usize = 56;
/// Offsets in a program header: place and size of what it describes.
const P_OFFSET: usize = 8;
const P_FILESZ: usize = 32;

/// The dynamic loader that `file` asks for; `None` for a static program.
pub fn interpreter(file: &[u8]) -> Result<Option<String>, NotElf> {
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return Err(NotElf);
    }
    let begin = usize::try_from(u64::from_le_bytes(bytes(file, E_PHOFF)?)).map_err(|_| NotElf)?;
    let size = usize::from(u16::from_le_bytes(bytes(file, E_PHENTSIZE)?));
    let number = usize::from(u16::from_le_bytes(bytes(file, E_PHNUM)?));
    for index in 0..number {
        let header = begin
            .checked_add(index * size)
            .and_then(|at| file.get(at..))
            .ok_or(NotElf)?;
        if u32::from_le_bytes(bytes(header, 0)?) == PT_INTERP {
            let at = usize::try_from(u64::from_le_bytes(bytes(header, P_OFFSET)?))
                .map_err(|_| NotElf)?;
            let length = usize::try_from(u64::from_le_bytes(bytes(header, P_FILESZ)?))
                .map_err(|_| NotElf)?;
            let name = at
                .checked_add(length)
                .and_then(|end| file.get(at..end))
                .ok_or(NotElf)?;
            return Ok(Some(
                String::from_utf8_lossy(name)
                    .trim_end_matches('\0')
                    .to_owned(),
            ));
        }
    }
    Ok(None)
}

fn bytes<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N], NotElf> {
    file.get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(NotElf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(kind: u32) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[E_PHOFF] = 64;
        file[E_PHENTSIZE] = 56;
        file[E_PHNUM] = 1;
        file[64..68].copy_from_slice(&kind.to_le_bytes());
        file[64 + P_OFFSET] = 120;
        file[64 + P_FILESZ] = 6;
        file.extend_from_slice(b"/ld.so");
        file
    }

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        assert_eq!(
            interpreter(&program(PT_INTERP)),
            Ok(Some("/ld.so".to_owned()))
        );
        assert_eq!(interpreter(&program(1)), Ok(None));
    }

    #[test]
    fn the_running_test_itself_is_read() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        assert!(interpreter(&file).is_ok());
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_or_an_answer_never_a_panic() {
        let file = program(PT_INTERP);
        for end in 0..file.len() {
            let _ = interpreter(&file[..end]);
        }
        let mut wild = file.clone();
        wild[E_PHOFF..E_PHOFF + 8].fill(0xff);
        assert_eq!(interpreter(&wild), Err(NotElf));
        let mut wild = file;
        wild[64 + P_OFFSET..64 + P_OFFSET + 8].fill(0xff);
        assert_eq!(interpreter(&wild), Err(NotElf));
    }
}
