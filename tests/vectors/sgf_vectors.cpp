// Prints a hash of the results of every kernel on fixed inputs, one line a case, the same for every
// instruction set: run where Python is not, such as under an emulator of another processor. Exits
// with 1 if the instruction sets of this machine disagree among themselves.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "core/convert.h"
#include "cpu/kernel_table.h"
#include "cpu/select/select.h"
#include "rules/select.h"

namespace {

using subgrad::DType;

// Numbers of many sizes, and what is special: zeros, infinities, NaN, denormals. (xorshift64*)
class Inputs {
 public:
  explicit Inputs(std::uint64_t seed) : state_(seed) {}
  double next() {
    static constexpr double kSpecial[] = {0.0,    -0.0, HUGE_VAL, -HUGE_VAL, NAN,       1e-45,
                                          -1e-45, 6e-8, 65504.0,  3.3e38,    0x1p-1074, -0x1p-130};
    const std::uint64_t r = bits();
    if (r % 5 == 0) return kSpecial[(r >> 8) % (sizeof kSpecial / sizeof *kSpecial)];
    const double mantissa = static_cast<double>(bits() >> 11) * 0x1p-52 - 1.0;
    return mantissa * static_cast<double>(std::int64_t{1} << (r >> 8) % 14) * 0x1p-6;
  }

 private:
  std::uint64_t bits() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dULL;
  }
  std::uint64_t state_;
};

void write(DType t, double x, unsigned char* to) {
  const auto f = static_cast<float>(x);
  if (t == DType::f64) {
    std::memcpy(to, &x, sizeof x);
  } else if (t == DType::f32) {
    std::memcpy(to, &f, sizeof f);
  } else {
    const std::uint16_t h = t == DType::bf16 ? subgrad::to_bf16(f).bits : subgrad::to_f16(f).bits;
    std::memcpy(to, &h, sizeof h);
  }
}

std::vector<unsigned char> array(DType t, std::size_t n, std::uint64_t seed) {
  Inputs inputs(seed);
  std::vector<unsigned char> bytes(n * size_of(t));
  for (std::size_t i = 0; i < n; ++i) write(t, inputs.next(), bytes.data() + i * size_of(t));
  return bytes;
}

template <class T>
T read(const unsigned char* from) {
  T x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

// FNV-1a over the elements; which NaN a NaN is stays open, so all count as one.
std::uint64_t hash(DType t, const std::vector<unsigned char>& bytes, std::uint64_t h) {
  for (std::size_t i = 0; i < bytes.size(); i += size_of(t)) {
    const unsigned char* p = bytes.data() + i;
    const double x = t == DType::f64    ? read<double>(p)
                     : t == DType::f32  ? double{read<float>(p)}
                     : t == DType::bf16 ? double{subgrad::to_f32(read<subgrad::bf16>(p))}
                                        : double{subgrad::to_f32(read<subgrad::f16>(p))};
    for (std::size_t b = 0; b < size_of(t); ++b) {
      h = (h ^ (x == x ? p[b] : 0x7fu)) * 0x100000001b3ULL;
    }
  }
  return h;
}

std::uint64_t run_case(int rule, int types, std::size_t n) {
  const subgrad::SgdRow& row = subgrad::kSgdRows[rule];
  subgrad::SgdParams params;
  params.lr = 0.1;
  params.momentum = row.buffer == subgrad::Buffer::none ? 0.0 : 0.9;
  params.dampening = row.nesterov ? 0.0 : 0.25;
  params.weight_decay = row.decay == subgrad::Decay::none ? 0.0 : 0.01;
  params.maximize = (rule + types) % 2 == 1;
  params.l1 = row.prox == subgrad::Prox::none ? 0.0 : 0.3;
  const auto& [param, grad, momentum] = subgrad::kDenseTypes[types];
  auto w = array(param, n, 1 + n), g = array(grad, n, 2 + n), m = array(momentum, n, 3 + n);
  const auto count = static_cast<std::int64_t>(n);
  subgrad::kernels().dense[rule][types](w.data(), g.data(), m.data(), count, params, 1.0);
  return hash(momentum, m, hash(param, w, 0xcbf29ce484222325ULL));
}

std::uint64_t bits_of(double x) {
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// FNV-1a over words.
std::uint64_t hash(const std::vector<std::uint64_t>& words) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const std::uint64_t word : words) h = (h ^ word) * 0x100000001b3ULL;
  return h;
}

void run_sampling(std::map<std::string, std::uint64_t>& results) {
  const subgrad::KernelTable& table = subgrad::kernels();
  for (const std::size_t n : {1u, 2u, 3u, 5u, 8u, 17u, 1025u, 2100u}) {
    const std::string size = " n " + std::to_string(n);
    std::vector<std::uint64_t> words(2 * n);
    // The counter's lower half wraps around.
    table.philox(0x0123456789abcdefULL, ~std::uint64_t{1}, 42, static_cast<std::int64_t>(n),
                 words.data());
    results["philox" + size] = hash(words);
    for (const int bits : {3, 7, 20, 40, 63}) {
      const std::uint64_t rows = (std::uint64_t{1} << bits) + 1;
      if (bits < 63 && n > rows) continue;
      const subgrad::Permutation p = subgrad::make_permutation(rows, 99, 7);
      std::vector<std::uint64_t> values(n);
      for (std::size_t i = 0; i < n; ++i) values[i] = i;
      table.permute(p, values.data(), static_cast<std::int64_t>(n));
      results["permute 2^" + std::to_string(bits) + " + 1" + size] = hash(values);
      table.unpermute(p, values.data(), static_cast<std::int64_t>(n / 2));
      results["unpermute 2^" + std::to_string(bits) + " + 1" + size] = hash(values);
    }
  }
}

void run_sparsity(std::map<std::string, std::uint64_t>& results) {
  const subgrad::KernelTable& table = subgrad::kernels();
  for (int t = 0; t < subgrad::kDTypes; ++t) {
    const auto type = static_cast<DType>(t);
    for (const std::size_t n : {4u, 12u, 20u, 64u, 68u, 516u}) {
      const auto count = static_cast<std::int64_t>(n);
      std::vector<std::uint8_t> mask(n);
      for (std::size_t i = 0; i < n; ++i) mask[i] = i < 64 || i % 3 == 0;
      const auto run = [&](const char* name, const auto& kernel) {
        auto x = array(type, n, 4 + n);
        kernel(x.data());
        results[std::string(name) + " " + name_of(type) + " n " + std::to_string(n)] =
            hash(type, x, 0xcbf29ce484222325ULL);
      };
      const std::uint64_t cut = type == DType::f64 ? 0x3fd0000000000000u : 0x3e800000u;  // 0.25
      run("shrink", [&](void* x) { table.shrink[t](x, count, 0.1, 0.7); });
      run("shrink 0", [&](void* x) { table.shrink[t](x, count, 1e-320, 1.0); });
      run("mask", [&](void* x) { table.apply_mask[t](x, mask.data(), count); });
      run("at least", [&](void* x) { table.keep_at_least[t](x, count, cut); });
      run("2:4", [&](void* x) { table.keep_pattern[t](x, count / 4, 2, 4); });
      run("1:2", [&](void* x) { table.keep_pattern[t](x, count / 2, 1, 2); });
    }
  }
}

// The selection kernels at cuts within the range of keys and at its ends.
template <class C>
void run_selection(DType type, std::map<std::string, std::uint64_t>& results) {
  const subgrad::KernelTable& table = subgrad::kernels();
  const int t = static_cast<int>(type);
  using Keys = subgrad::Keys<C>;
  const subgrad::key_t<C> one = subgrad::magnitude_key(C(1));
  for (const std::size_t n : {1u, 2u, 3u, 4u, 7u, 8u, 15u, 16u, 33u, 97u, 515u, 4096u}) {
    const auto x = array(type, n, 4 + n);
    const auto size = static_cast<std::int64_t>(n);
    for (const auto cut : {subgrad::key_t<C>{0}, one, Keys::inf, Keys::nan, Keys::nothing}) {
      const subgrad::KeyCounts counts = table.count_keys[t](x.data(), size, cut);
      std::vector<std::int32_t> indices(n + subgrad::kGatherSlack);
      std::vector<C> values(n + subgrad::kGatherSlack);
      const std::int64_t found =
          table.gather_keys[t](x.data(), size, cut, indices.data(), values.data());
      const subgrad::Energy energy = table.sum_squares[t](x.data(), size, cut);
      const int shift = sizeof(C) == 8 ? 44 : 11;
      std::vector<std::uint32_t> bins(subgrad::kDigitTables * subgrad::kDigitBins);
      table.count_digits[t](x.data(), size, one / 2, cut, shift,
                            reinterpret_cast<std::uint32_t(*)[subgrad::kDigitBins]>(bins.data()));

      std::vector<std::uint64_t> words{static_cast<std::uint64_t>(counts.at_least),
                                       static_cast<std::uint64_t>(counts.above),
                                       static_cast<std::uint64_t>(found)};
      for (std::size_t i = 0; i < static_cast<std::size_t>(found); ++i) {
        words.push_back(static_cast<std::uint64_t>(indices[i]));
        words.push_back(subgrad::magnitude_key(values[i]));
        words.push_back(values[i] < 0 ? 1 : 0);
      }
      for (const double sum : {energy.kept, energy.rest}) {
        words.push_back(std::isnan(sum) ? 0 : bits_of(sum));
      }
      for (std::size_t digit = 0; digit < subgrad::kDigitBins; ++digit) {
        std::uint64_t sum = 0;
        for (std::size_t i = digit; i < bins.size(); i += subgrad::kDigitBins) sum += bins[i];
        words.push_back(sum);
      }
      results["select " + std::string(name_of(type)) + " n " + std::to_string(n) + " cut " +
              std::to_string(cut)] = hash(words);
    }
  }
}

// The whole of a selection: a sampled bound, one that misleads, and none.
void run_top(DType type, std::map<std::string, std::uint64_t>& results) {
  const std::size_t n = 70'001;
  const auto x = array(type, n, 5), y = array(type, 333, 6);
  const std::vector<subgrad::Span> spans = {{y.data(), type, 333},
                                            {x.data(), type, static_cast<std::int64_t>(n)}};
  for (const std::int64_t k : {0, 1, 700, 3500, 8000, 40'000, 70'334}) {
    const subgrad::Selection top = subgrad::select_top(spans, k, subgrad::IndexType::i64);
    std::vector<std::uint64_t> words{top.cut.key, static_cast<std::uint64_t>(top.cut.boundary)};
    for (const subgrad::Selected& s : top.spans) {
      const auto count = static_cast<std::size_t>(s.count);
      words.push_back(count);
      for (std::size_t i = 0; i < count; ++i) {
        words.push_back(
            read<std::uint64_t>(reinterpret_cast<const unsigned char*>(s.indices.get()) + 8 * i));
      }
    }
    results["top " + std::to_string(k) + " " + name_of(type)] = hash(words);
  }
}

// The parts of the thresholded step, one after the other, with coefficients that tell them apart.
void run_threshold(std::map<std::string, std::uint64_t>& results) {
  const subgrad::KernelTable& table = subgrad::kernels();
  for (int rule = 0; rule < subgrad::kSgdRules; ++rule) {
    for (int types = 0; types < subgrad::kDenseTypeRows; ++types) {
      const subgrad::AccumulateKernel accumulate = table.accumulate[rule][types];
      if (accumulate == nullptr) continue;
      const auto& [param, grad, momentum] = subgrad::kDenseTypes[types];
      for (const std::size_t n : {1u, 3u, 4u, 7u, 8u, 15u, 16u, 33u, 97u, 1100u}) {
        const auto size = static_cast<std::int64_t>(n);
        auto w = array(param, n, 1 + n), g = array(grad, n, 2 + n), m = array(momentum, n, 3 + n);
        auto v = array(momentum, n, 4 + n), taken = g;
        taken.resize(n * size_of(momentum));
        subgrad::SgdParams params;
        params.lr = 0.1;
        params.momentum = 0.9;
        params.weight_decay = 0.01;
        params.dampening = 0.25;
        params.maximize = rule % 2 == 1;
        accumulate(w.data(), g.data(), m.data(), v.data(), size, params);
        std::uint64_t h = hash(momentum, v, hash(momentum, m, 0xcbf29ce484222325ULL));
        params.maximize = false;
        const bool wide = momentum == DType::f64;
        const std::uint64_t cut = wide ? subgrad::cut_of<double>(0.5) : subgrad::cut_of<float>(0.5);
        const std::size_t room = n + subgrad::kKeptSlack;
        std::vector<std::int64_t> indices(room);
        std::vector<unsigned char> values(room * size_of(momentum));
        // C++17 lets no lambda capture a structured binding by its name alone.
        const auto report = [&, momentum = momentum](std::int64_t kept) {
          const auto count = static_cast<std::size_t>(kept);
          values.resize(count * size_of(momentum));
          h = hash(momentum, values, h);
          for (std::size_t i = 0; i < count; ++i) {
            h = (h ^ static_cast<std::uint64_t>(indices[i])) * 0x100000001b3ULL;
          }
          values.resize(room * size_of(momentum));
        };
        const subgrad::KeptLanes to = {indices.data(), values.data(), 7, 8};
        const auto& release = table.release[static_cast<int>(param)];
        auto rest = v;
        report(table.take[static_cast<int>(momentum)](rest.data(), taken.data(), size, cut, to));
        h = hash(momentum, taken, hash(momentum, rest, h));
        for (const subgrad::ReleaseKernel kernel : {release.plain, release.decaying}) {
          auto w2 = w, m2 = m, v2 = v;
          report(kernel(w2.data(), m2.data(), v2.data(), size, params, cut, to));
          h = hash(momentum, v2, hash(momentum, m2, hash(param, w2, h)));
        }
        results["sparse rule " + std::to_string(rule) + " " + name_of(param) + " " + name_of(grad) +
                " n " + std::to_string(n)] = h;
      }
    }
  }
}

std::map<std::string, std::uint64_t> run_all() {
  std::map<std::string, std::uint64_t> results;
  run_sampling(results);
  run_sparsity(results);
  run_selection<float>(DType::f32, results);
  run_selection<double>(DType::f64, results);
  run_selection<float>(DType::bf16, results);
  run_selection<float>(DType::f16, results);
  for (int t = 0; t < subgrad::kDTypes; ++t) run_top(static_cast<DType>(t), results);
  run_threshold(results);
  for (int rule = 0; rule < subgrad::kSgdRules; ++rule) {
    for (int types = 0; types < subgrad::kDenseTypeRows; ++types) {
      for (const std::size_t n : {1u, 3u, 4u, 7u, 8u, 15u, 16u, 33u, 97u, 515u}) {
        const auto& t = subgrad::kDenseTypes[types];
        const std::string name = "rule " + std::to_string(rule) + " " + name_of(t.param) + " " +
                                 name_of(t.grad) + " " + name_of(t.momentum) + " n " +
                                 std::to_string(n);
        results[name] = run_case(rule, types, n);
      }
    }
  }
  return results;
}

}  // namespace

int main() {
  std::vector<std::string> isas;
  subgrad::each_available_isa(
      [](const char* name, void* out) {
        static_cast<std::vector<std::string>*>(out)->push_back(name);
      },
      &isas);
  std::map<std::string, std::uint64_t> first;
  int differing = 0;
  for (const std::string& isa : isas) {
    subgrad::select_isa(isa.c_str());
    const auto results = run_all();
    if (first.empty()) first = results;
    for (const auto& [name, value] : results) {
      if (first[name] == value) continue;
      ++differing;
      std::fprintf(stderr, "%s differs from %s: %s\n", isa.c_str(), isas[0].c_str(), name.c_str());
    }
    std::fprintf(stderr, "%s: %zu cases\n", isa.c_str(), results.size());
  }
  for (const auto& [name, value] : first) {
    std::printf("%s %016llx\n", name.c_str(), static_cast<unsigned long long>(value));
  }
  return differing == 0 ? 0 : 1;
}
