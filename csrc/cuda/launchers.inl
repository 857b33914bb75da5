// The CUDA launchers, each written once as SGF_LAUNCHER(result, name, parameters). Whoever includes
// this file defines what becomes of a line: api.h makes declarations and a table of pointers,
// bindings/cuda/module.cpp fills the table, bindings/testing/tables.cpp describes it to the tests.

// The driver's version as major * 1000 + minor * 10; 0 without a driver.
SGF_LAUNCHER(int, driver_version, (int* version))
SGF_LAUNCHER(int, device_count, (int* count))
SGF_LAUNCHER(int, device_info, (int device, CudaDeviceInfo* info))
// Whether this build has kernels that the device can run.
SGF_LAUNCHER(int, check_device, (int device))
SGF_LAUNCHER(const char*, error_text, (int error))

// A step with stages has options; null: gradients are taken as they are. Averages are kept by
// groups that have a decay.
SGF_LAUNCHER(int, dense_step,
             (int device, void* stream, const DenseTensor* tensors, std::size_t count,
              const DenseGroup* groups, const CudaDenseOptions* options))
SGF_LAUNCHER(int, set_step_counts,
             (int device, void* stream, CudaStepCounts* counts, int momentum, int average))

// Gradients measured: scratch memory begins with the sums of squares of all, of each group and of
// each gradient. `group_of`, by gradient, ascends. The norm is that of all, unscaled; null: it is
// not wanted.
SGF_LAUNCHER(int, clip_bytes,
             (const Gradient* gradients, std::size_t count, int groups, std::size_t* bytes))
SGF_LAUNCHER(int, clip_measure,
             (int device, void* stream, const Gradient* gradients, std::size_t count,
              const int* group_of, int groups, const CudaClip* clip, void* scratch, double* norm))
// The largest magnitude of all in place of the norm.
SGF_LAUNCHER(int, clip_largest,
             (int device, void* stream, const Gradient* gradients, std::size_t count, void* scratch,
              double* norm))
// Changes gradients in place: they are brought within max_norm by that norm, where it is not null,
// and held within [-limit, limit]. `wide` as in rules/norm.h.
SGF_LAUNCHER(int, clip_change,
             (int device, void* stream, const Gradient* gradients, std::size_t count,
              const double* norm, double max_norm, bool wide, double limit))

// Sampling. Indices are int64, aligned to 8 bytes.

// The rows at positions start, start + step, ... of an order, all of them in [0, n).
SGF_LAUNCHER(int, order_range,
             (int device, void* stream, const RowOrder* order, std::int64_t start,
              std::int64_t step, std::int64_t* out, std::int64_t count))
// Positions become rows, or rows positions, in place. Negative ones count from the end; what is
// still outside [0, n) becomes kOutside.
SGF_LAUNCHER(int, order_indices,
             (int device, void* stream, const RowOrder* order, std::int64_t* values,
              std::int64_t count))
SGF_LAUNCHER(int, order_positions,
             (int device, void* stream, const RowOrder* order, std::int64_t* values,
              std::int64_t count))

// Draws number start, start + 1, ... with replacement: from [0, n), or from the n columns of an
// alias table in device memory, aligned to 16 bytes.
SGF_LAUNCHER(int, uniform_draws,
             (int device, void* stream, std::uint64_t n, std::uint64_t key, std::uint64_t start,
              std::int64_t* out, std::int64_t count))
SGF_LAUNCHER(int, alias_draws,
             (int device, void* stream, const AliasColumn* table, std::uint64_t n,
              std::uint64_t key, std::uint64_t start, std::int64_t* out, std::int64_t count))

// Blocks `low`, `low` + 1, ... of the counters whose upper half is `high`: two words each.
SGF_LAUNCHER(int, random_words,
             (int device, void* stream, std::uint64_t key, std::uint64_t low, std::uint64_t high,
              std::uint64_t* words, std::int64_t blocks))

// Copies indices from host memory, which may change as soon as this returns.
SGF_LAUNCHER(int, send_indices,
             (int device, void* stream, const std::int64_t* indices, std::int64_t* out,
              std::int64_t count))

// Copies source row indices[i] of every array to row i of its output. The indices have been
// checked.
SGF_LAUNCHER(int, gather,
             (int device, void* stream, const GatherArray* arrays, std::size_t count,
              const std::int64_t* indices, std::int64_t rows))

// Selection in two parts, which share scratch memory on the device. The first finds what is kept
// and counts it; the second writes it, when the caller has made room.
SGF_LAUNCHER(int, select_bytes,
             (const SelectSpan* spans, std::size_t count, const Selector* scopes,
              std::size_t scope_count, std::size_t* bytes))
SGF_LAUNCHER(int, select_find,
             (int device, void* stream, const SelectSpan* spans, std::size_t count,
              const Selector* scopes, std::size_t scope_count, void* scratch,
              const CudaReport* report))
SGF_LAUNCHER(int, select_write,
             (int device, void* stream, const SelectSpan* spans, std::size_t count,
              const Selector* scopes, std::size_t scope_count, void* scratch, int index_bytes))

// A thresholded step, likewise. Where nothing is reported the second part follows at once.
SGF_LAUNCHER(int, threshold_bytes,
             (const ThresholdTensor* tensors, std::size_t count, const Selector* scopes,
              std::size_t scope_count, const ThresholdOptions* options, std::size_t* bytes))
SGF_LAUNCHER(int, threshold_begin,
             (int device, void* stream, const ThresholdTensor* tensors, std::size_t count,
              const ThresholdGroup* groups, const Selector* scopes, std::size_t scope_count,
              const ThresholdOptions* options, void* scratch, const CudaReport* report))
SGF_LAUNCHER(int, threshold_finish,
             (int device, void* stream, const ThresholdTensor* tensors, std::size_t count,
              const ThresholdGroup* groups, const Selector* scopes, std::size_t scope_count,
              const ThresholdOptions* options, void* scratch, const CudaReport* report))

#undef SGF_LAUNCHER
