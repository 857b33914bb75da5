// The table is built by the sweep of Hübschle-Schneider and Sanders ("Parallel weighted random
// sampling", ESA 2019): columns with less than the average mass (light) are filled up from those
// with more (heavy), both in order of their index. Where the sweep stands after s columns follows
// from prefix sums, so several threads can start in its middle, and since masses are integers all
// of them see the same sweep.
#include "cpu/sampling/alias.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "cpu/sampling/blocks.h"
#include "cpu/sampling/words.h"
#include "samplers/draw.h"

namespace subgrad {
namespace {

// The mass of a column is 2^(64 - fraction_bits), and all n hold less than 2^62 or just that.
int fraction_bits_of(std::uint64_t n) { return 2 + ceil_log2(n); }

// Maps [0, total] to [0, target] in proportion, monotonically and without a division.
class Proportion {
 public:
  Proportion(std::uint64_t total, std::uint64_t target) : total_(total), target_(target) {
    while (((total << shift_) >> 63) == 0) ++shift_;
    // floor(2^64 * target / (total << shift)), by long division: target < total << shift.
    std::uint64_t rest = target;
    const std::uint64_t divisor = total << shift_;
    for (int bit = 0; bit < 64; ++bit) {
      const bool carry = (rest >> 63) != 0;
      rest <<= 1;
      factor_ <<= 1;
      if (carry || rest >= divisor) {
        rest -= divisor;
        factor_ |= 1;
      }
    }
  }
  std::uint64_t operator()(std::uint64_t x) const {
    return x == total_ ? target_ : mul_wide(x << shift_, factor_).high;
  }

 private:
  std::uint64_t total_, target_, factor_ = 0;
  int shift_ = 0;
};

// Light or heavy columns in order of index, with the mass of all before; one more entry closes the
// list.
struct Item {
  std::uint64_t index, before;
};
struct Items {
  std::unique_ptr<Item[]> at;
  std::uint64_t count = 0;
  // What item i adds.
  std::uint64_t mass(std::uint64_t i) const { return at[i + 1].before - at[i].before; }
  void close(std::uint64_t items, std::uint64_t mass) {
    count = items;
    at.reset(new Item[items + 1]);
    at[items] = {0, mass};
  }
};

struct Sweep {
  const Items& light;
  const Items& heavy;
  std::uint64_t capacity;
  int fraction_bits;  // capacity is 2^(64 - fraction_bits)

  // How many heavy columns are among the first `steps` that the sweep finishes. Heavy h is, if the
  // light ones before it and all heavy ones up to it leave its column less than full, or no light
  // ones are left.
  std::uint64_t heavy_after(std::uint64_t steps) const {
    std::uint64_t low = 0, high = heavy.count;
    while (low < high) {
      const std::uint64_t h = low + (high - low) / 2;
      bool finished = false;
      if (h < steps) {
        const std::uint64_t lights = steps - 1 - h;
        finished = lights >= light.count ||
                   light.at[lights].before + heavy.at[h + 1].before < steps * capacity;
      }
      if (finished) {
        low = h + 1;
      } else {
        high = h;
      }
    }
    return low;
  }

  void run(std::uint64_t begin, std::uint64_t end, AliasColumn* columns) const {
    std::uint64_t j = heavy_after(begin);
    std::uint64_t i = begin - j;
    std::uint64_t left = heavy.at[j + 1].before + light.at[i].before - begin * capacity;
    std::uint64_t step = begin;
    // Either a light column is filled up from the current heavy one, or that one has become light
    // itself and is filled up from the next. Which of the two is a coin toss: selected, not
    // branched on.
    for (; step < end && i < light.count; ++step) {
      const bool fill_light = left >= capacity;
      const Item *a = &light.at[i], *b = &heavy.at[j];
      const Item* next = fill_light ? a : b + 1;
      const std::uint64_t mass = next[1].before - next[0].before;
      const std::uint64_t kept = fill_light ? mass : left;
      columns[fill_light ? a->index : b->index] = {kept << fraction_bits,
                                                   fill_light ? b->index : b[1].index};
      left = left + mass - capacity;
      i += fill_light ? 1 : 0;
      j += fill_light ? 0 : 1;
    }
    // No light columns are left.
    for (; step < end; ++step, ++j) {
      const std::uint64_t current = heavy.at[j].index;
      const bool full = left == capacity;  // the threshold 2^64 does not exist: the alias is itself
      columns[current] = {full ? ~std::uint64_t{0} : left << fraction_bits,
                          full ? current : heavy.at[j + 1].index};
      if (j + 1 < heavy.count) left = left + heavy.mass(j + 1) - capacity;
    }
  }
};

}  // namespace

AliasTable::AliasTable(const double* weights, std::int64_t n, const WeightScale& scale)
    : n_(static_cast<std::uint64_t>(n)),
      columns_(large_array<AliasColumn>(static_cast<std::size_t>(n))) {
  struct Sums {
    std::uint64_t weight, light, light_mass, heavy, heavy_mass;
  };
  std::vector<Sums> sums(static_cast<std::size_t>(blocks_of(n)) + 1, Sums{});
  const auto sums_of = [&](std::int64_t block) -> Sums& {
    return sums[static_cast<std::size_t>(block)];
  };
  // Turns what each block holds into what all blocks before it hold.
  const auto scan = [&](std::uint64_t Sums::* member) {
    std::uint64_t before = 0;
    for (Sums& s : sums) {
      const std::uint64_t here = s.*member;
      s.*member = before;
      before += here;
    }
    return before;
  };

  // Until the sweep finishes a column, its threshold holds the weight, then the mass.
  each_block(n, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
    std::uint64_t sum = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::uint64_t weight = scale(weights[i]);
      columns_[static_cast<std::size_t>(i)].threshold = weight;
      sum += weight;
    }
    sums_of(block).weight = sum;
  });
  total_ = scan(&Sums::weight);

  // Masses that add up to n * capacity exactly: the differences of rounded partial sums.
  const int fraction_bits = fraction_bits_of(n_);
  const std::uint64_t capacity = std::uint64_t{1} << (64 - fraction_bits);
  const Proportion mass_up_to(total_, n_ * capacity);
  each_block(n, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
    Sums s = sums_of(block);
    std::uint64_t weight_up_to = s.weight;
    std::uint64_t before = mass_up_to(weight_up_to);
    for (std::int64_t i = begin; i < end; ++i) {
      std::uint64_t& threshold = columns_[static_cast<std::size_t>(i)].threshold;
      weight_up_to += threshold;
      const std::uint64_t after = mass_up_to(weight_up_to);
      const std::uint64_t mass = after - before;
      threshold = mass;
      before = after;
      const std::uint64_t is_light = mass < capacity ? 1 : 0;
      s.light += is_light;
      s.light_mass += is_light * mass;
      s.heavy += 1 - is_light;
      s.heavy_mass += (1 - is_light) * mass;
    }
    sums_of(block) = s;
  });
  Items light, heavy;
  const std::uint64_t lights = scan(&Sums::light), heavies = scan(&Sums::heavy);
  light.close(lights, scan(&Sums::light_mass));
  heavy.close(heavies, scan(&Sums::heavy_mass));

  each_block(n, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
    Sums s = sums_of(block);
    for (std::int64_t i = begin; i < end; ++i) {
      const auto index = static_cast<std::uint64_t>(i);
      const std::uint64_t mass = columns_[index].threshold;
      const bool is_light = mass < capacity;
      *(is_light ? &light.at[s.light] : &heavy.at[s.heavy]) = {
          index, is_light ? s.light_mass : s.heavy_mass};
      s.light += is_light ? 1 : 0;
      s.light_mass += is_light ? mass : 0;
      s.heavy += is_light ? 0 : 1;
      s.heavy_mass += is_light ? 0 : mass;
    }
  });
  const Sweep sweep{light, heavy, capacity, fraction_bits};
  each_block(n, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    sweep.run(static_cast<std::uint64_t>(begin), static_cast<std::uint64_t>(end), columns_.get());
  });
}

void AliasTable::draw(std::uint64_t key, std::uint64_t start, std::int64_t count,
                      std::int64_t* out) const {
  const auto draw_batch = [&](std::int64_t i, const std::uint64_t* words, std::int64_t size) {
    // Columns lie anywhere in memory: they are fetched this many draws ahead.
    constexpr std::int64_t ahead = 64;
    for (std::int64_t j = 0; j < std::min(ahead, size); ++j) fetch(words[j]);
    for (std::int64_t j = 0; j < size; ++j) {
      fetch(words[std::min(j + ahead, size - 1)]);
      std::uint64_t index;
      if (!pick(words[j], index)) {
        index = redraw(*this, key, start + static_cast<std::uint64_t>(i + j));
      }
      out[i + j] = static_cast<std::int64_t>(index);
    }
  };
  each_batch(key, 0, start, count, draw_batch);
}

std::vector<std::uint64_t> AliasTable::masses() const {
  const int fraction_bits = fraction_bits_of(n_);
  const std::uint64_t capacity = std::uint64_t{1} << (64 - fraction_bits);
  std::vector<std::uint64_t> masses(static_cast<std::size_t>(n_));
  for (std::uint64_t i = 0; i < n_; ++i) {
    const std::uint64_t kept = columns_[i].threshold >> fraction_bits;
    masses[i] += kept;
    masses[columns_[i].alias] += capacity - kept;
  }
  return masses;
}

}  // namespace subgrad
