"""How people and programs write dates and times, as regular expressions.

Dates in other languages are known by their shape: a day, one word, a year (`3. Oktober 2026`, `3 de octubre de 2026`,
`3 октября 2026`). A weekday or a year alone is a date where the text says that it is today's.
"""

from __future__ import annotations

END = r"(?![A-Za-z0-9_])"
"""Not `\\b`: a CJK character may stand right beside a date."""

_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_WEEKDAY = (
    r"(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|Mon|Tue|Wed|Thu|Fri|Sat|Sun"
    r"|(?:Mon|Diens|Donners|Frei|Sams|Sonn)tag|Mittwoch|(?i:(?:lun|mar|mercre|jeu|vendre|same)di|dimanche"
    r"|lunes|martes|miércoles|jueves|viernes|sábado|domingo|(?:lune|marte|mercole|giove|vener)dì|sabato|domenica"
    r"|(?:segunda|terça|quarta|quinta|sexta)(?:-feira)?|(?:maan|dins|woens|donder|vrij|zater|zon)dag"
    r"|понедельник|вторник|среда|четверг|пятница|суббота|воскресенье))"
)
_YEAR = r"(?:19|20)\d{2}"
_ORDINAL = r"\d{1,2}(?:st|nd|rd|th)?"
_NO_MONTH = r"(?!(?:and|or|of|the|to|in|for|from|by|at|per)\b)"

CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?"
ZONE = r"(?:\s?(?:[AaPp]\.?[Mm]\b\.?|UTC|GMT|Z\b|[+-]\d{2}:?\d{2}))*"
TIME = CLOCK + ZONE
DATE = (
    rf"(?:{_WEEKDAY},?\s(?:den\s|el\s|the\s)?)?(?:"
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?!\d)"
    rf"|\d{{1,2}}(?P<separator>[-/.])\d{{1,2}}(?P=separator)\d{{4}}{END}"
    rf"|\d{{1,2}}/\d{{1,2}}/\d{{2}}{END}"
    rf"|{_MONTH}\s{_ORDINAL}(?:,?\s\d{{4}})?{END}"
    rf"|{_ORDINAL}\s(?:of\s)?{_MONTH},?\s\d{{4}}{END}"
    rf"|{_MONTH},?\s{_YEAR}{END}"
    rf"|\d{{1,2}}\.?\s(?:de\s)?{_NO_MONTH}[^\W\d_]{{3,12}}\.?,?\s(?:de\s)?{_YEAR}{END}"
    r"|\d{4}\s?[年년]\s?\d{1,2}\s?[月월]\s?\d{1,2}\s?[日일]"
    r"(?:\s?(?:星期|周|礼拜)[一二三四五六日天]|\s?[（(]?[月火水木金土日월화수목금토일](?:曜日|요일)?[）)]|\s?[월화수목금토일]요일)?"
    rf")(?:(?:T|,?\s){TIME})?"
    rf"|(?:(?<=oday is )|(?<=oday: )|(?<=[Dd]ay: )|(?<=[Dd]ay is ))(?:a\s)?{_WEEKDAY}{END}"
    rf"|(?:(?<=[Yy]ear is )|(?<=[Yy]ear: )){_YEAR}{END}"
    r"|datetime\.(?:date|datetime|time)\(\d[^()\n]{0,60}\)"  # a dict of Python's, printed
)
