// Draws with replacement: each is a function of its number, of which the random word comes. A
// picker says whether a word gives a draw, and which; a word that gives none is drawn again.
#pragma once

#include <cstdint>

#include "core/philox.h"
#include "samplers/weighted.h"

namespace subgrad {
inline namespace SGF_ISA {

// One of [0, n), all equally likely.
struct UniformPicker {
  std::uint64_t n;
  SGF_HD bool pick(std::uint64_t word, std::uint64_t& value) const {
    return bounded(word, n, value);
  }
};

// One of an alias table's columns, as likely as its weight says.
struct AliasPicker {
  const AliasColumn* table;
  std::uint64_t n;
  SGF_HD bool pick(std::uint64_t word, std::uint64_t& value) const {
    return alias_pick(table, n, word, value);
  }
};

// Two draws share a block of words.
SGF_HD std::uint64_t word_of(const Words& words, std::uint64_t draw) {
  return (draw & 1) != 0 ? words.second : words.first;
}

// A draw whose word was refused, from the words of further attempts.
template <class Picker>
SGF_HD std::uint64_t redraw(const Picker& picker, std::uint64_t key, std::uint64_t draw) {
  for (std::uint32_t attempt = 1;; ++attempt) {
    const Words words = philox_words(key, draw >> 1, counter_high(attempt, 0));
    std::uint64_t value;
    if (picker.pick(word_of(words, draw), value)) return value;
  }
}

}  // namespace SGF_ISA
}  // namespace subgrad
