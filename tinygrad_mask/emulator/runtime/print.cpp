#include "print.h"

#include <cstdio>
#include <cstring>

#include "checker.h"
#include "types.h"

namespace emulator {

// A device keeps as much until the host looks; what is printed beyond it is lost here.
constexpr size_t MOST_PRINTED = 1 << 20;

namespace {

class Arguments {
public:
    explicit Arguments(const char* begin) : at_(begin) {}

    template <class T>
    T next() {
        at_ += -reinterpret_cast<u64>(at_) & (sizeof(T) - 1);
        T value = load<T>(at_);
        at_ += sizeof(T), ++count_;
        return value;
    }
    u32 count() const { return count_; }

private:
    const char* at_;
    u32 count_ = 0;
};

template <class... T>
void append(std::string& text, const std::string& format, T... values) {
    int length = std::snprintf(nullptr, 0, format.c_str(), values...);
    if (length <= 0) return;
    std::string piece(size_t(length) + 1, 0);
    std::snprintf(&piece[0], piece.size(), format.c_str(), values...);
    text.append(piece, 0, size_t(length));
}

}  // namespace

u32 print(Fiber& fiber, u32 site, const char* format, const char* raw) {
    Checker* checker = fiber.worker->checker();
    if (checker && !(format = checker->text(fiber, site, format))) return ~0u;
    Arguments arguments(raw);
    std::string text;
    while (*format) {
        if (*format != '%' || format[1] == '%') {
            text += *format;
            format += *format == '%' ? 2 : 1;
            continue;
        }
        std::string one(1, *format++);
        bool wide = false;
        for (; *format && std::strchr("-+ #0123456789.*hlLqjzt", *format); ++format) {
            if (*format == '*')
                one += std::to_string(arguments.next<s32>());
            else if (std::strchr("hlLqjzt", *format))
                wide |= *format != 'h';
            else
                one += *format;
        }
        const char conversion = *format ? *format++ : 0;
        if (conversion && std::strchr("diuxXo", conversion)) {
            one += "ll", one += conversion;
            if (wide)
                append(text, one, arguments.next<s64>());
            else if (std::strchr("di", conversion))
                append(text, one, s64(arguments.next<s32>()));
            else
                append(text, one, u64(arguments.next<u32>()));
        } else if (conversion && std::strchr("eEfFgGaA", conversion)) {
            append(text, one + conversion, arguments.next<double>());
        } else if (conversion == 'c') {
            append(text, one + conversion, arguments.next<s32>());
        } else if (conversion == 'p') {
            append(text, one + conversion, arguments.next<void*>());
        } else if (conversion == 's') {
            const char* string = arguments.next<const char*>();
            if (checker) string = checker->text(fiber, site, string);
            append(text, one + conversion, string ? string : "(null)");
        } else {
            text += one;  // no conversion: as it is written
            if (conversion) text += conversion;
        }
    }
    Progress& progress = fiber.worker->progress();
    std::lock_guard<std::mutex> guard(progress.lock);
    if (progress.printed.size() + text.size() <= MOST_PRINTED) progress.printed += text;
    return arguments.count();
}

}  // namespace emulator
