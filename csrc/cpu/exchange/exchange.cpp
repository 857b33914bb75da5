#include "cpu/exchange/exchange.h"

#include <algorithm>

#include "core/convert.h"
#include "cpu/support/spans.h"

namespace subgrad {
namespace {

template <class C>
constexpr C kNothing = C(-0.0);

template <class C>
bool is_finite(C value) {
  return value - value == C(0);
}

// The largest finite value of a type, which has no sign bit yet.
template <class T>
constexpr T kLargest{};
template <>
constexpr bf16 kLargest<bf16>{0x7f7f};
template <>
constexpr f16 kLargest<f16>{0x7bff};

// A value rounded to the type T. One that is finite stays so: beyond T's range it becomes T's
// largest, since an infinity would stand for nothing that any rank has computed.
template <class T, class C>
T saturated(C value) {
  T narrowed = Narrow<T>::of(value);
  if constexpr (sizeof(T) == 2) {
    if (is_finite(value) && !is_finite(to_f32(narrowed))) {
      narrowed = kLargest<T>;
      narrowed.bits |= value < C(0) ? 0x8000 : 0;
    }
  }
  return narrowed;
}

// What stays behind of a value that was sent rounded. Of a value that is not finite nothing does.
template <class C>
C remainder(C value, C sent) {
  const C rest = value - sent;
  return is_finite(rest) && rest != C(0) ? rest : kNothing<C>;
}

// Calls body(index, value) with values of the format's types.
template <class Body>
void with_types(const EntryFormat& format, const Body& body) {
  with_element(format.dtype, [&](auto value) {
    if (format.wide) {
      body(std::int64_t{}, value);
    } else {
      body(std::int32_t{}, value);
    }
  });
}

// Calls body(index, value, element): the vector's elements are of the values' type, or of the type
// that is computed in.
template <class Body>
void with_types(const EntryFormat& format, DType vector, const Body& body) {
  with_types(format, [&](auto index, auto value) {
    if (vector == format.dtype) {
      body(index, value, value);
    } else {
      body(index, value, compute_t<decltype(value)>{});
    }
  });
}

// S: the type of the values before they are packed as T.
template <class I, class T, class S>
void pack(const SelectedEntries& selected, I* indices, T* values) {
  using C = compute_t<T>;
  const I* from = static_cast<const I*>(selected.indices);
  const S* x = static_cast<const S*>(selected.values);
  C* residual = static_cast<C*>(selected.residual);
  for (std::int64_t i = 0; i < selected.count; ++i) {
    const std::int64_t at = from[i];
    // Checked once more: another thread of the caller may have changed the indices since.
    if (static_cast<std::uint64_t>(at) >= static_cast<std::uint64_t>(selected.size)) continue;
    const C value = widen<C>(x[i]);
    indices[i] = static_cast<I>(at + selected.offset);
    values[i] = saturated<T>(value);
    if (residual != nullptr) residual[at] = remainder(value, widen<C>(values[i]));
  }
}

template <class I>
const I* indices_of(const Payload& payload) {
  return reinterpret_cast<const I*>(payload.data);
}

template <class I, class T>
const T* values_of(const Payload& payload, std::int64_t capacity) {
  return reinterpret_cast<const T*>(payload.data + capacity * std::int64_t{sizeof(I)});
}

// Sums in the first-level cache; big enough that looking at every payload costs little.
constexpr std::int64_t kMergeElements = 4 << 10;
constexpr std::int64_t kMergeSlotElements = 16 * kMergeElements;

// Merges the elements [begin, end) of the vector, of type T, from values of type V.
template <class I, class V, class T>
void merge(const std::vector<Payload>& payloads, std::int64_t capacity, double scale, T* out,
           std::int64_t begin, std::int64_t end) {
  using C = compute_t<T>;
  C sums[kMergeElements];
  for (; begin < end; begin += kMergeElements) {
    const std::int64_t n = std::min(kMergeElements, end - begin);
    std::fill(sums, sums + n, kNothing<C>);
    for (const Payload& payload : payloads) {
      const I* const indices = indices_of<I>(payload);
      const V* const values = values_of<I, V>(payload, capacity);
      const auto place = [&](std::int64_t at) {
        return std::lower_bound(indices, indices + payload.count, at) - indices;
      };
      const std::int64_t last = place(begin + n);
      for (std::int64_t i = place(begin); i < last; ++i) {
        const T share = Narrow<T>::of(widen<C>(values[i]) * static_cast<C>(scale));
        // Checked once more: another thread of the caller may have changed the payload since.
        const auto at = static_cast<std::uint64_t>(indices[i] - begin);
        if (at < static_cast<std::uint64_t>(n)) sums[at] += widen<C>(share);
      }
    }
    std::transform(sums, sums + n, out + begin, [](C sum) { return saturated<T>(sum); });
  }
}

}  // namespace

void pack_entries(const std::vector<SelectedEntries>& tensors, const EntryFormat& format,
                  std::int64_t capacity, char* payload) {
  with_types(format, [&](auto index, auto element) {
    using I = decltype(index);
    using T = decltype(element);
    I* indices = reinterpret_cast<I*>(payload);
    T* values = reinterpret_cast<T*>(payload + capacity * std::int64_t{sizeof(I)});
    for (const SelectedEntries& selected : tensors) {
      if (selected.computed) {
        pack<I, T, compute_t<T>>(selected, indices, values);
      } else {
        pack<I, T, T>(selected, indices, values);
      }
      indices += selected.count;
      values += selected.count;
    }
  });
}

bool valid_entries(const Payload& payload, const EntryFormat& format, std::int64_t n) {
  bool valid = true;
  with_types(format, [&](auto index, auto) {
    const auto* indices = indices_of<decltype(index)>(payload);
    std::int64_t last = -1;
    for (std::int64_t i = 0; i < payload.count; ++i) {
      valid &= indices[i] > last;
      last = indices[i];
    }
    valid &= last < n;
  });
  return valid;
}

void merge_entries(const std::vector<Payload>& payloads, const EntryFormat& format,
                   std::int64_t capacity, double scale, DType dtype, void* out, std::int64_t n) {
  const int threads = threads_for(n * static_cast<std::int64_t>(size_of(dtype)));
  const std::int64_t slots = (n + kMergeSlotElements - 1) / kMergeSlotElements;
  with_types(format, dtype, [&](auto index, auto value, auto element) {
    using T = decltype(element);
    const std::int64_t work = n * std::int64_t{sizeof(T)};
    adaptive_for(threads, slots, work, [&](std::int64_t slot) {
      const std::int64_t begin = slot * kMergeSlotElements;
      merge<decltype(index), decltype(value)>(payloads, capacity, scale, static_cast<T*>(out),
                                              begin, std::min(begin + kMergeSlotElements, n));
    });
  });
}

}  // namespace subgrad
