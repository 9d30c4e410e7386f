// SPDX-License-Identifier: Apache-2.0
#include "curl_handles.h"
#include "http_transport.h"
#include "hub_errors.h"
#include "url_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <exception>
#include <filesystem>
#include <mutex>
#include <stop_token>
#include <thread>

namespace kernelhub::hub {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kKeptErrorBody = 64u << 10;
constexpr std::uint64_t kLongestErrorBody = 1u << 20;
constexpr long kSlowBytesPerSecond = 1024;  // trust spec T18
constexpr long kSlowSeconds = 60;
constexpr long kReceiveBuffer = 256L << 10;
constexpr std::chrono::milliseconds kWatchInterval{50};

// Certificate bundles of Debian, Fedora, SUSE, Alpine and Arch, for a libcurl built elsewhere.
constexpr std::array<const char*, 5> kCertificateBundles = {
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
    "/etc/ca-certificates/extracted/tls-ca-bundle.pem"};

void start_curl_once() {
  static std::once_flag started;
  std::call_once(started, [] {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
      throw hub_errors::transport_setup("curl_global_init failed");
    }
  });
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

// One request on its way; lives on the stack of the thread that waits for it.
struct Transfer {
  explicit Transfer(const HttpRequest& asked) : request(asked) {}
  const HttpRequest& request;
  CurlEasy easy;
  CurlList headers;
  HttpResponse reply;
  std::exception_ptr failure;  // thrown by sink or source
  std::array<char, CURL_ERROR_SIZE> error_text{};
  Clock::time_point started;
  Clock::time_point last_activity;
  bool begun = false;
  bool uses_proxy = false;
  bool done = false;  // guarded by the transport's mutex

  bool stop(TransferFault fault, std::string text) {
    reply.fault = fault;
    reply.fault_text = std::move(text);
    return false;
  }
  void read_head();
  bool begin();
  bool take(std::string_view block);
};

void Transfer::read_head() {
  long status = 0;
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
  reply.status = static_cast<int>(status);
  reply.headers.clear();
  curl_header* field = nullptr;
  while ((field = curl_easy_nextheader(easy.get(), CURLH_HEADER, -1, field)) != nullptr) {
    reply.headers.emplace_back(lower(field->name), field->value);
  }
}

bool Transfer::begin() {
  begun = true;
  read_head();
  if (request.sink == nullptr || reply.status / 100 != 2) return true;
  return request.sink->begin(reply) || stop(TransferFault::kStopped, "the reply does not fit");
}

bool Transfer::take(std::string_view block) {
  last_activity = Clock::now();
  if (!begun && !begin()) return false;
  reply.received_bytes += block.size();
  if (reply.status / 100 != 2) {
    if (reply.received_bytes > kLongestErrorBody) {
      return stop(TransferFault::kTooLarge, "endless error text");
    }
    const std::size_t room = kKeptErrorBody - std::min(kKeptErrorBody, reply.body.size());
    reply.body.append(block.substr(0, room));
    return true;
  }
  if (request.sink != nullptr) {
    return request.sink->write(block) || stop(TransferFault::kStopped, "the body does not fit");
  }
  if (reply.received_bytes > request.max_reply_bytes) {
    return stop(TransferFault::kTooLarge,
                fmt::format("more than {} bytes", request.max_reply_bytes));
  }
  reply.body.append(block);
  return true;
}

// The three callbacks run inside libcurl, so nothing may be thrown through them.
extern "C" std::size_t kernelhub_curl_write(char* data, std::size_t, std::size_t count,
                                            void* user) noexcept {
  auto* transfer = static_cast<Transfer*>(user);
  try {
    return transfer->take({data, count}) ? count : 0;
  } catch (...) {
    transfer->failure = std::current_exception();
    return 0;
  }
}

extern "C" std::size_t kernelhub_curl_read(char* buffer, std::size_t, std::size_t capacity,
                                           void* user) noexcept {
  auto* transfer = static_cast<Transfer*>(user);
  try {
    transfer->last_activity = Clock::now();
    return transfer->request.source->read(buffer, capacity);
  } catch (...) {
    transfer->failure = std::current_exception();
    return CURL_READFUNC_ABORT;
  }
}

extern "C" int kernelhub_curl_seek(void* user, curl_off_t offset, int origin) noexcept {
  auto* transfer = static_cast<Transfer*>(user);
  if (offset != 0 || origin != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
  try {
    transfer->request.source->rewind();
    return CURL_SEEKFUNC_OK;
  } catch (...) {
    transfer->failure = std::current_exception();
    return CURL_SEEKFUNC_FAIL;
  }
}

TransferFault fault_of(CURLcode code, const Transfer& transfer) {
  long connect_status = 0;
  curl_easy_getinfo(transfer.easy.get(), CURLINFO_HTTP_CONNECTCODE, &connect_status);
  if (transfer.uses_proxy && connect_status != 0 && connect_status / 100 != 2) {
    return TransferFault::kProxy;
  }
  switch (code) {
    case CURLE_OK:
      return TransferFault::kNone;
    case CURLE_COULDNT_RESOLVE_HOST:
      return TransferFault::kDns;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PROXY:
      return TransferFault::kProxy;
    case CURLE_COULDNT_CONNECT:
      return transfer.uses_proxy ? TransferFault::kProxy : TransferFault::kConnect;
    case CURLE_OPERATION_TIMEDOUT:
      return TransferFault::kTimeout;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
      return TransferFault::kTls;
    default:
      return TransferFault::kBroken;
  }
}

class CurlTransport final : public HttpTransport {
 public:
  explicit CurlTransport(const Config& config);
  ~CurlTransport() override;
  HttpResponse perform(const HttpRequest& request) override;
  void wait(std::chrono::milliseconds duration, const std::function<bool()>& cancelled) override;
  std::chrono::system_clock::time_point now() const override {
    return std::chrono::system_clock::now();
  }

 private:
  void set_up(Transfer& transfer) const;
  void set_up_trust_and_proxy(Transfer& transfer) const;
  void run(const std::stop_token& stopping);
  void admit();
  void collect();
  void watch();
  void finish(Transfer& transfer);

  const std::string http_proxy_, https_proxy_, no_proxy_;
  std::string ca_file_;
  const std::string ca_dir_;
  CurlMulti multi_;
  std::mutex mutex_;
  std::condition_variable finished_;
  std::vector<Transfer*> waiting_;  // guarded by mutex_
  std::vector<Transfer*> active_;   // only the loop's thread
  std::once_flag loop_started_;
  std::jthread loop_;
};

CurlTransport::CurlTransport(const Config& config)
    : http_proxy_(config.http_proxy),
      https_proxy_(config.https_proxy),
      no_proxy_(config.no_proxy),
      ca_file_(config.ca_file.string()),
      ca_dir_(config.ca_dir.string()) {
  if (ca_file_.empty() && ca_dir_.empty()) {
    const auto found =
        std::find_if(kCertificateBundles.begin(), kCertificateBundles.end(),
                     [](const char* path) { return std::filesystem::is_regular_file(path); });
    if (found != kCertificateBundles.end()) ca_file_ = *found;
  }
}

CurlTransport::~CurlTransport() {
  if (!loop_.joinable()) return;
  loop_.request_stop();
  curl_multi_wakeup(multi_.get());
}

HttpResponse CurlTransport::perform(const HttpRequest& request) {
  // A client that is served by its cache starts neither libcurl nor a thread.
  std::call_once(loop_started_, [this] {
    start_curl_once();
    multi_.reset(curl_multi_init());
    if (!multi_) throw hub_errors::transport_setup("curl_multi_init failed");
    loop_ = std::jthread([this](const std::stop_token& stopping) { run(stopping); });
  });
  Transfer transfer(request);
  if (request.source != nullptr) request.source->rewind();
  set_up(transfer);
  std::unique_lock lock(mutex_);
  waiting_.push_back(&transfer);
  curl_multi_wakeup(multi_.get());
  finished_.wait(lock, [&transfer] { return transfer.done; });
  if (transfer.failure) std::rethrow_exception(transfer.failure);
  return std::move(transfer.reply);
}

void CurlTransport::wait(std::chrono::milliseconds duration,
                         const std::function<bool()>& cancelled) {
  const auto end = Clock::now() + duration;
  while (Clock::now() < end && !(cancelled && cancelled())) {
    std::this_thread::sleep_until(std::min(end, Clock::now() + 2 * kWatchInterval));
  }
}

void CurlTransport::set_up(Transfer& transfer) const {
  const HttpRequest& request = transfer.request;
  transfer.easy.reset(curl_easy_init());
  if (!transfer.easy) throw hub_errors::transport_setup("curl_easy_init failed");
  CURL* easy = transfer.easy.get();
  for (const auto& [name, value] : request.headers) {
    const std::string line = fmt::format("{}: {}", name, value);
    curl_slist* longer = curl_slist_append(transfer.headers.get(), line.c_str());
    if (longer == nullptr) throw hub_errors::transport_setup("no memory for headers");
    // The list's head stays the same after the first append.
    if (!transfer.headers) transfer.headers.reset(longer);
  }
  curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer.headers.get());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PRIVATE, &transfer);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer.error_text.data());
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kReceiveBuffer);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(request.connect_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, kSlowBytesPerSecond);
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, kSlowSeconds);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, kernelhub_curl_write);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
  const bool streamed = request.source != nullptr;
  const auto length =
      static_cast<curl_off_t>(streamed ? request.source->size_bytes() : request.body.size());
  if (streamed) {
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, kernelhub_curl_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, kernelhub_curl_seek);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, &transfer);
  }
  if (request.method == HttpMethod::kPost) {
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, length);
    if (!streamed) curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.c_str());
  } else if (request.method == HttpMethod::kPut) {
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, length);
  }
  set_up_trust_and_proxy(transfer);
}

void CurlTransport::set_up_trust_and_proxy(Transfer& transfer) const {
  CURL* easy = transfer.easy.get();
  if (!ca_file_.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file_.c_str());
  if (!ca_dir_.empty()) curl_easy_setopt(easy, CURLOPT_CAPATH, ca_dir_.c_str());
  const auto origin = origin_of(transfer.request.url);
  const std::string& proxy = origin && origin->is_https() ? https_proxy_ : http_proxy_;
  transfer.uses_proxy = !proxy.empty();
  // Set even when empty: libcurl would read some of the environment's variables by itself.
  curl_easy_setopt(easy, CURLOPT_PROXY, proxy.c_str());
  curl_easy_setopt(easy, CURLOPT_NOPROXY, no_proxy_.c_str());
}

void CurlTransport::run(const std::stop_token& stopping) {
  while (!stopping.stop_requested()) {
    admit();
    int running = 0;
    curl_multi_perform(multi_.get(), &running);
    collect();
    watch();
    const auto pause = active_.empty() ? std::chrono::milliseconds(60000) : kWatchInterval;
    curl_multi_poll(multi_.get(), nullptr, 0, static_cast<int>(pause.count()), nullptr);
  }
}

void CurlTransport::admit() {
  std::vector<Transfer*> admitted;
  {
    const std::lock_guard lock(mutex_);
    admitted.swap(waiting_);
  }
  for (Transfer* transfer : admitted) {
    transfer->started = transfer->last_activity = Clock::now();
    active_.push_back(transfer);
    const CURLMcode code = curl_multi_add_handle(multi_.get(), transfer->easy.get());
    if (code != CURLM_OK) {
      transfer->stop(TransferFault::kConnect, curl_multi_strerror(code));
      finish(*transfer);
    }
  }
}

void CurlTransport::collect() {
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    char* user = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &user);
    Transfer& transfer = *reinterpret_cast<Transfer*>(user);
    if (code == CURLE_OK && !transfer.begun) {
      try {
        transfer.begin();  // an empty body
      } catch (...) {
        transfer.failure = std::current_exception();
      }
    }
    if (code != CURLE_OK && transfer.reply.ok()) {
      const char* text = transfer.error_text.front() != '\0' ? transfer.error_text.data()
                                                             : curl_easy_strerror(code);
      transfer.stop(fault_of(code, transfer), text);
    }
    finish(transfer);
  }
}

void CurlTransport::watch() {
  const auto now = Clock::now();
  const std::vector<Transfer*> watched = active_;
  for (Transfer* transfer : watched) {
    const HttpRequest& request = transfer->request;
    if (request.cancelled && request.cancelled()) {
      transfer->stop(TransferFault::kCancelled, "cancelled");
    } else if (now - transfer->last_activity > request.idle_timeout) {
      transfer->stop(TransferFault::kTimeout,
                     fmt::format("no byte for {} ms", request.idle_timeout.count()));
    } else if (request.total_timeout.count() > 0 &&
               now - transfer->started > request.total_timeout) {
      transfer->stop(TransferFault::kTimeout,
                     fmt::format("not complete after {} ms", request.total_timeout.count()));
    } else {
      continue;
    }
    finish(*transfer);
  }
}

void CurlTransport::finish(Transfer& transfer) {
  std::erase(active_, &transfer);
  curl_multi_remove_handle(multi_.get(), transfer.easy.get());
  // Notify under the lock: the waiting thread destroys `transfer` as soon as it sees `done`.
  const std::lock_guard lock(mutex_);
  transfer.done = true;
  finished_.notify_all();
}

CurlUrl parsed_url(const std::string& url) {
  CurlUrl parsed(curl_url());
  if (!parsed || curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) return {};
  return parsed;
}

std::string part_of(const CurlUrl& url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url.get(), part, &text, flags) != CURLUE_OK) return {};
  return CurlText(text).get();
}

}  // namespace

std::string_view HttpResponse::header(std::string_view name) const noexcept {
  for (const auto& [field, value] : headers) {
    if (field == name) return value;
  }
  return {};
}

std::shared_ptr<HttpTransport> make_curl_transport(const Config& config) {
  return std::make_shared<CurlTransport>(config);
}

bool Origin::is_loopback() const {
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

std::optional<Origin> origin_of(const std::string& url) {
  const CurlUrl parsed = parsed_url(url);
  if (!parsed) return std::nullopt;
  Origin origin{part_of(parsed, CURLUPART_SCHEME), lower(part_of(parsed, CURLUPART_HOST)),
                part_of(parsed, CURLUPART_PORT, CURLU_DEFAULT_PORT)};
  const bool is_http = origin.scheme == "http" || origin.scheme == "https";
  if (!is_http || origin.host.empty()) return std::nullopt;
  return origin;
}

std::optional<std::string> resolve_location(const std::string& base, const std::string& location) {
  const CurlUrl parsed = parsed_url(base);
  if (!parsed || curl_url_set(parsed.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK) {
    return std::nullopt;
  }
  std::string url = part_of(parsed, CURLUPART_URL);
  if (url.empty()) return std::nullopt;
  return url;
}

std::string without_query(const std::string& url) {
  const CurlUrl parsed = parsed_url(url);
  if (!parsed) return url.substr(0, url.find('?'));
  for (const CURLUPart part :
       {CURLUPART_QUERY, CURLUPART_FRAGMENT, CURLUPART_USER, CURLUPART_PASSWORD}) {
    curl_url_set(parsed.get(), part, nullptr, 0);
  }
  return part_of(parsed, CURLUPART_URL);
}

}  // namespace kernelhub::hub
