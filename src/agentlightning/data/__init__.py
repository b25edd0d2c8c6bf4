"""The nouns everybody shares: no I/O, no behaviour of other rooms, nothing imported but errors."""
