//! Code pages of DOS, which the encoding crate does not know: the upper 128 characters of each.

/// A code page whose lower half is ASCII.
#[derive(Debug, PartialEq, Eq)]
pub struct CodePage {
    pub name: &'static str,
    upper: &'static str,
}

/// Of the United States.
pub static CP437: CodePage = CodePage {
    name: "CP437",
    upper: "\
     ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ\
     áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
     └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
     αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}\
    ",
};

/// Of Western Europe.
pub static CP850: CodePage = CodePage {
    name: "CP850",
    upper: "\
     ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒ\
     áíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐\
     └┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀\
     ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}\
    ",
};

/// Of Central Europe.
pub static CP852: CodePage = CodePage {
    name: "CP852",
    upper: "\
     ÇüéâäůćçłëŐőîŹÄĆÉĹĺôöĽľŚśÖÜŤťŁ×č\
     áíóúĄąŽžĘę¬źČş«»░▒▓│┤ÁÂĚŞ╣║╗╝Żż┐\
     └┴┬├─┼Ăă╚╔╩╦╠═╬¤đĐĎËďŇÍÎě┘┌█▄ŢŮ▀\
     ÓßÔŃńňŠšŔÚŕŰýÝţ´\u{ad}˝˛ˇ˘§÷¸°¨˙űŘř■\u{a0}\
    ",
};

impl CodePage {
    pub fn decode(&self, bytes: &[u8]) -> String {
        let upper: Vec<char> = self.upper.chars().collect();
        bytes.iter().map(|b| if b.is_ascii() { char::from(*b) } else { upper[usize::from(*b - 128)] }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_page_has_all_its_characters() {
        for page in [&CP437, &CP850, &CP852] {
            assert_eq!(page.upper.chars().count(), 128, "{}", page.name);
        }
        assert_eq!(CP850.decode(b"gr\x81\xe1e"), "grüße");
        assert_eq!(CP852.decode(b"\x9fe\xe7tina"), "čeština");
    }
}
